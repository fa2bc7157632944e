"""The pure part: bytes to requests, texts to token ids, batches, logits, labels, and order."""
