"""Pieces to words, by their characters."""

from worker.model.evaluation.align import NOWHERE, first_pieces, word_of_each

WORDS = [(0, 5), (6, 8), (9, 10)]


def test_pieces_belong_to_the_word_that_they_lie_in():
    pieces = [(0, 0), (0, 2), (2, 5), (6, 8), (9, 10), (0, 0)]
    assert word_of_each(pieces, WORDS) == [NOWHERE, 0, 0, 1, 2, NOWHERE]
    assert first_pieces(pieces, WORDS) == [1, 3, 4]


def test_a_piece_with_the_space_before_a_word_is_that_words():
    assert word_of_each([(0, 5), (5, 8), (8, 10)], WORDS) == [0, 1, 2]


def test_a_space_alone_is_nobodys():
    assert word_of_each([(5, 6)], WORDS) == [NOWHERE]


def test_a_word_without_pieces_has_none():
    """What the normalizer strips, or truncation cuts off."""
    assert first_pieces([(0, 5), (9, 10)], WORDS) == [0, NOWHERE, 1]
    assert first_pieces([(0, 5)], WORDS) == [0, NOWHERE, NOWHERE]
