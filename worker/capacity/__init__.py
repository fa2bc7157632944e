"""What one worker can do on this machine with a bundle, measured, and the settings that follow: `winnow bench`."""
