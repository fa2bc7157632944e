"""What runs in the environments of the peers: one script each, and what they share."""
