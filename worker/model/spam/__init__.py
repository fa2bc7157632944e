"""The default bundle: its texts, its recipe, its card. `python -m worker.model.spam.__main__` makes it again."""
