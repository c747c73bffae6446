"""Huffman codes and relative indices, by the textbook and by the paper's figure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.coding.huffman import MAX_BITS, Code, entropy_bits
from compress.coding.relative import gaps_of, positions_of
from compress.coding.tensor_code import Reader, TensorCode
from compress.errors import ModelFileError

# Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms", figure 16.3: a … f, in thousands.
TEXTBOOK = np.array([45, 13, 12, 16, 9, 5])


def test_the_textbook_example():
    code = Code.of(TEXTBOOK)
    assert code.lengths.tolist() == [1, 3, 3, 3, 4, 4]
    assert int((code.lengths * TEXTBOOK).sum()) == 224
    # Canonical: by length, then by symbol.
    words = [format(word, f"0{length}b") for word, length in zip(code.words(), code.lengths, strict=True)]
    assert words == ["0", "100", "101", "110", "1110", "1111"]
    # f a c e: 1111 0 101 1110, and four bits to fill the last byte.
    assert code.encode(np.array([5, 0, 2, 4])) == bytes([0b11110101, 0b11100000])
    np.testing.assert_array_equal(code.decode(bytes([0b11110101, 0b11100000]), 4), [5, 0, 2, 4])


def test_no_code_gets_below_the_entropy_and_huffman_is_within_a_bit():
    assert entropy_bits(np.array([2, 1, 1, 0])) == 6.0
    used = int((Code.of(TEXTBOOK).lengths * TEXTBOOK).sum())
    assert entropy_bits(TEXTBOOK) <= used < entropy_bits(TEXTBOOK) + TEXTBOOK.sum()


def test_words_never_get_too_long():
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    code = Code.of(np.array(fibonacci))
    assert code.lengths.max() <= MAX_BITS
    assert (2.0 ** -code.lengths.astype(float)).sum() <= 1
    symbols = np.arange(30).repeat(3)
    np.testing.assert_array_equal(code.decode(code.encode(symbols), 90), symbols)


def test_long_streams_are_decoded_across_chunks():
    symbols = np.random.default_rng(0).integers(0, 300, 300_000)
    code = Code.of(np.bincount(symbols))
    np.testing.assert_array_equal(code.decode(code.encode(symbols), len(symbols)), symbols)


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [(b"\xf5", 4, "too early"), (b"\xf5\xe0\x00", 4, "longer than"), (b"", 1, "too early")],
)
def test_words_that_do_not_fit_are_refused(data, count, expected):
    with pytest.raises(ModelFileError, match=expected):
        Code.of(TEXTBOOK).decode(data, count)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [17, 1], [255], [0, 0]])
def test_lengths_of_no_code_are_refused(lengths):
    with pytest.raises(ModelFileError, match="Huffman code"):
        Code(np.array(lengths, np.uint8)).decode(b"\0\0\0", 3)


def test_the_figure_of_the_paper():
    # Deep Compression, figure 2: nonzeros at 1, 4, 15 and 3 bits; a filler stands at 4 + 8 = 12. Steps are one less
    # than the paper's differences 1 (from 0), 3, 8, 3.
    steps, filler = gaps_of(np.array([1, 4, 15]), 3)
    assert steps.tolist() == [1, 2, 7, 2]
    assert filler.tolist() == [False, False, True, False]
    assert positions_of(steps, 16).tolist() == [1, 4, 12, 15]


def test_long_gaps_take_several_fillers():
    steps, filler = gaps_of(np.array([0, 8, 9, 30]), 3)
    assert steps.tolist() == [0, 7, 0, 7, 7, 4]
    assert filler.tolist() == [False, False, False, True, True, False]
    with pytest.raises(ModelFileError, match="outside their tensor; got 30"):
        positions_of(steps, 30)


def test_without_steps_every_zero_is_a_filler():
    steps, filler = gaps_of(np.array([1, 4]), 0)
    assert not steps.any()
    assert filler.tolist() == [True, False, True, True, False]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=40),
    st.sampled_from([0, 1, 3, 5, 8]),
    st.sampled_from([1, 2, 4]),
)
def test_any_tensor_comes_back(runs, bits, item_bytes):
    zeros_and_values = [element for zeros, value in runs for element in [0] * zeros + [value]]
    data = np.array(zeros_and_values, dtype=f"<u{item_bytes}").tobytes()
    code = TensorCode.of(data, item_bytes, bits)
    heads, words = Reader(code.head), Reader(code.data)
    assert TensorCode.read(heads, words, len(data)) == data
    heads.require_end()
    words.require_end()
