"""The demo: messages to classify."""
