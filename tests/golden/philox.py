"""Philox4x32-10 streams, the twin of src/kernels/rng.rs in numpy: the same bits for the same address.

A number is a pure function of (seed, purpose, layer, epoch, row, element). Used by make_layers.py and make_losses.py.
`python philox.py` runs the known-answer test of Random123. Written with numpy 2.4.
"""
import numpy as np

WEIGHTS, SHUFFLE, DROPOUT, SYNTH, SPLIT = 1, 2, 3, 4, 5  # Purpose
MASK = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)


def philox4x32(counter, key):
    """`counter`: four uint64 arrays (or numbers) holding 32-bit words; `key`: two ints. Returns four such arrays."""
    c = [np.asarray(word, dtype=np.uint64) for word in counter]
    k = [int(word) for word in key]
    for _ in range(10):
        low, high = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (high >> WORD) ^ c[1] ^ np.uint64(k[0]),
            high & MASK,
            (low >> WORD) ^ c[3] ^ np.uint64(k[1]),
            low & MASK,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


class Stream:
    """The stream of `purpose` for one layer, epoch (from 0) and row; methods give its first `n` elements."""

    def __init__(self, seed, purpose, layer=0, epoch=0, row=0):
        self.key = (seed & 0xFFFFFFFF, seed >> 32)
        self.row, self.epoch, self.tag = row, epoch, purpose << 16 | layer

    def bits(self, n):
        """32 random bits each, as uint32 [n]."""
        index = np.arange((n + 3) // 4, dtype=np.uint64)
        words = philox4x32([index, self.row, self.epoch, self.tag], self.key)
        return np.stack(np.broadcast_arrays(*words), axis=1).reshape(-1)[:n].astype(np.uint32)

    def uniform(self, n):
        """In [0, 1), on a grid of 2^-24, as f32 [n]."""
        return (self.bits(n) >> 8).astype(np.float32) * np.float32(2.0**-24)

    def normal(self, n, std=1.0):
        """Box-Muller in f64 on neighbouring elements, then rounded to f32 [n]."""
        words = (self.bits((n + 3) // 4 * 4) >> 8).astype(np.float64).reshape(-1, 2)
        radius = np.sqrt(-2.0 * np.log((words[:, 0] + 1.0) / 2.0**24))
        angle = 2.0 * np.pi * words[:, 1] / 2.0**24
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return (pairs.reshape(-1)[:n] * std).astype(np.float32)

    def permutation(self, n):
        """Fisher-Yates from the top; step i uses element i."""
        bits, order = self.bits(max(n, 1)), list(range(n))
        for i in range(n - 1, 0, -1):
            j = int(bits[i]) * (i + 1) >> 32
            order[i], order[j] = order[j], order[i]
        return order


def known_answers():
    """The known answers of Random123, as in the tests of src/kernels/rng.rs."""
    full = 0xFFFFFFFF
    for counter, key, answer in [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([full] * 4, [full] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]:
        assert [int(word) for word in philox4x32(counter, key)] == answer, (counter, key)


if __name__ == "__main__":
    known_answers()
    print("philox: known answers match")
