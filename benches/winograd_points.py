"""How far Winograd's F(2x2, 3x3) and F(4x4, 3x3) round, by the points of interpolation, beside the plain sum: all in f32.

    python benches/winograd_points.py        # numpy

Rectified normal pixels, He weights; errors against f64, as parts of the outputs' deviation: root mean square and largest.
"""
import numpy as np

F32 = np.float32
TILES, REPEATS = 400, 3
POINTS = {
    "F(2x2): 0, 1, -1": [0, 1, -1],
    "F(4x4): 0, 1, -1, 2, -2": [0, 1, -1, 2, -2],
    "F(4x4): 0, 1/2, -1/2, 1, -1": [0, 0.5, -0.5, 1, -1],
    "F(4x4): 0, 1/2, -1/2, 2, -2": [0, 0.5, -0.5, 2, -2],
    "F(4x4): 0, 1, -1, 1/2, -2": [0, 1, -1, 0.5, -2],
    "F(4x4): 0, 5/8, -5/8, 5/4, -5/4": [0, 0.625, -0.625, 1.25, -1.25],
    "F(4x4): 0, 3/4, -3/4, 3/2, -3/2": [0, 0.75, -0.75, 1.5, -1.5],
}


def matrices(points):
    """Output, weight and image transforms (Cook and Toom), infinity being the last point."""
    n = len(points) + 1
    output, weight, image = np.zeros((n - 2, n)), np.zeros((n, 3)), np.zeros((n, n))
    for j, x in enumerate(points):
        others = [y for y in points if y != x]
        output[:, j] = [x**i for i in range(n - 2)]
        weight[j] = [x**i / np.prod([x - y for y in others]) for i in range(3)]
        image[j, : n - 1] = np.poly(others)[::-1]
    output[-1, -1], weight[-1, 2], image[-1] = 1, 1, np.poly(points)[::-1]
    return output, weight, image


def both(matrix, tile):
    """Columns, then rows; every product and every sum rounded."""
    for _ in range(2):
        lines = []
        for row in matrix.astype(F32):
            terms = [value * factor for factor, value in zip(row, tile) if factor != 0]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            lines.append(total)
        tile = np.stack(lines).swapaxes(0, 1)
    return tile


def fused(value, factor, total):
    return (value.astype(np.float64) * factor.astype(np.float64) + total).astype(F32)


def errors(rng, channels, points):
    """(Winograd's, the plain sum's) errors."""
    output, weight, image = matrices(points)
    size, outputs = len(image), len(output)
    pixels = np.maximum(rng.standard_normal((size, size, TILES, channels)), 0).astype(F32)
    window = (rng.standard_normal((3, 3, channels)) * np.sqrt(2 / (9 * channels))).astype(F32)
    tiles, weights = both(image, pixels), both(weight, window)
    sums = np.zeros((size, size, TILES), F32)
    for c in range(channels):
        sums = fused(tiles[..., c], weights[:, :, None, c], sums)
    exact, plain = np.zeros((outputs, outputs, TILES)), np.zeros((outputs, outputs, TILES), F32)
    for ky in range(3):
        for kx in range(3):
            under = pixels[ky : ky + outputs, kx : kx + outputs]
            exact += (under.astype(np.float64) * window[ky, kx].astype(np.float64)).sum(-1)
            for c in range(channels):
                plain = fused(under[..., c], window[ky, kx, c], plain)
    return (both(output, sums) - exact) / exact.std(), (plain - exact) / exact.std()


def main():
    rng = np.random.default_rng(1)
    print(f"{'channels':>8}  {'points':<34} {'rms':>8} {'largest':>8}   plain: {'rms':>8} {'largest':>8}")
    for channels in (16, 64, 128):
        for name, points in POINTS.items():
            found = [errors(rng, channels, points) for _ in range(REPEATS)]
            rms = [np.sqrt(np.mean([np.mean(e[side] ** 2) for e in found])) for side in (0, 1)]
            most = [np.max([np.abs(e[side]).max() for e in found]) for side in (0, 1)]
            print(f"{channels:>8}  {name:<34} {rms[0]:8.1e} {most[0]:8.1e}          {rms[1]:8.1e} {most[1]:8.1e}")


if __name__ == "__main__":
    main()
