"""From what others have trained or exported to a bundle."""
