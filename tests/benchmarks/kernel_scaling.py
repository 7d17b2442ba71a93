"""Cost of kernel regression from a thousand to a million rows; what one solve saves; what centres lose.

    python tests/benchmarks/kernel_scaling.py [--json]

Seconds are processor time of one thread, so other work on the machine does not count; two cores take about half.
Synthetic rows, made block by block and forgotten.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from math import log10
from typing import Any

import torch
from result_files import RESULTS, asked_for_json, publish

from image2reg.linking.kernels import kernel_matrix
from image2reg.linking.nystrom import Nystrom
from image2reg.linking.regression import held_out, predict

D, T, CENTRES, BLOCK = 64, 16, 500, 4096
F32 = torch.float32


def rows(n: int, d: int, *, seed: int, dtype: torch.dtype = F32) -> tuple[torch.Tensor, torch.Tensor]:
    """Sources of unit mean squared length, and targets that are a smooth function of them plus noise."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng, dtype=dtype) / d**0.5
    maps = torch.randn(d, T, generator=torch.Generator().manual_seed(99), dtype=dtype)
    return x, torch.tanh(2 * x @ maps / d**0.25) + 0.3 * torch.randn(n, T, generator=rng, dtype=dtype)


def blocks(n: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for number, start in enumerate(range(0, n, BLOCK)):
        yield rows(min(BLOCK, n - start), D, seed=1000 + number)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def on_centres(n: int) -> tuple[float, Nystrom]:
    centres = rows(CENTRES, D, seed=1)[0]
    return seconds(lambda: Nystrom.fit(blocks(n), centres, ridge=1.0))


def all_held_out(n: int, d: int) -> float:
    x, y = rows(n, d, seed=2, dtype=torch.float64)
    return seconds(lambda: held_out(kernel_matrix(x), y, 1.0))[0]


def speedup(n: int = 200) -> tuple[float, float, float]:
    """Refitting per target against all from one solve, same rows, same run.

    Returns
    -------
    From the rows (kernel and solve, both ways); with the kernel given to both; largest difference of the predictions.
    """
    x, y = rows(n, D, seed=3, dtype=torch.float64)
    kernel = kernel_matrix(x)
    held_out(kernel, y, 1.0)  # the first call pays for loading the library

    def refit(*, shared: bool) -> torch.Tensor:
        made = torch.empty_like(y)
        for i in range(n):
            j = torch.cat([torch.arange(i), torch.arange(i + 1, n)])
            inner = kernel[j][:, j] if shared else kernel_matrix(x[j])
            cross = kernel[i : i + 1, j] if shared else kernel_matrix(x[i : i + 1], x[j])
            made[i] = predict(inner, y[j], 1.0, cross)[0]
        return made

    repeats = 50
    whole = seconds(lambda: [held_out(kernel_matrix(x), y, 1.0) for _ in range(repeats)])[0] / repeats
    solve = seconds(lambda: [held_out(kernel, y, 1.0) for _ in range(repeats)])[0] / repeats
    slow, brute = seconds(lambda: refit(shared=False))
    shared = seconds(lambda: refit(shared=True))[0]
    return slow / whole, shared / solve, float((held_out(kernel, y, 1.0)[0] - brute).abs().max())


def centre_error(n: int = 10_000) -> tuple[float, float, float]:
    """Exact and Nystrom on the same rows: error of each on new rows, and the exact fit's seconds."""
    parts = list(blocks(n))
    x, y = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    new, truth = rows(1000, D, seed=4)
    taken, exact = seconds(lambda: predict(kernel_matrix(x), y, 1.0, kernel_matrix(new, x)))
    fitted = on_centres(n)[1].predict(new)
    spread = truth.var(dim=0).sum()
    error = [float(((p - truth) ** 2).mean(dim=0).sum() / spread) for p in (exact, fitted)]
    return taken, error[0], error[1]


def drawing(curves: dict[str, dict[int, float]]) -> str:
    """Seconds against rows, both logarithmic, as SVG."""
    width, height, left, rim = 640, 360, 60, 40
    low, high = -2, 2

    def at(n: float, taken: float) -> tuple[float, float]:
        x = left + (width - left - rim) * (log10(n) - 3) / 3
        return x, height - rim - (height - 2 * rim) * (log10(taken) - low) / (high - low)

    marks = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for power in range(3, 7):
        x, y = at(10**power, 10**low)
        marks.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{10**power:,}</text>')
        marks.append(f'<path d="M{x:.1f} {y:.1f}V{rim}" stroke="#e3e8ea"/>')
    for power in range(low, high + 1):
        x, y = at(1e3, 10**power)
        marks.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        marks.append(f'<path d="M{x:.1f} {y:.1f}H{width - rim}" stroke="#e3e8ea"/>')
    for (name, points), colour in zip(curves.items(), ("#d1651a", "#0b6e8a"), strict=True):
        places = [at(n, max(taken, 10**low)) for n, taken in points.items()]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        marks.append(
            f'<text x="{x - 8:.1f}" y="{y - 10:.1f}" text-anchor="end" fill="{colour}">{name}</text>'
        )
    marks.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">rows</text>')
    marks.append(f'<text x="{left}" y="24" text-anchor="start">seconds of one core</text>')
    body = "".join(marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13">{body}</svg>\n'
    )


def measure() -> dict[str, Any]:
    torch.set_num_threads(1)
    # The million comes first: the peak of memory is the process's, and later parts need more.
    centres = {n: on_centres(n)[0] for n in (1_000, 10_000, 100_000, 1_000_000)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    ratio, shared_ratio, difference = speedup()
    exact = {n: all_held_out(n, D) for n in (1_000, 2_000, 4_000)}
    exact_4000 = all_held_out(4_000, 1_024)
    taken, exact_error, centre = centre_error()
    million = centres[1_000_000]
    curves = {"exact, every row held out": exact, f"{CENTRES} centres": centres}
    (RESULTS / "kernel_scaling.svg").write_text(drawing(curves))
    table = [
        *([f"{n:,}", "exact, every row held out", f"{s:.2f}", f"{n / s:,.0f}"] for n, s in exact.items()),
        [
            "4,000 of 1,024 features",
            "exact, every row held out",
            f"{exact_4000:.2f}",
            f"{4000 / exact_4000:,.0f}",
        ],
        ["10,000", "exact, one fit", f"{taken:.2f}", f"{10_000 / taken:,.0f}"],
        *([f"{n:,}", f"{CENTRES} centres, one fit", f"{s:.2f}", f"{n / s:,.0f}"] for n, s in centres.items()),
    ]
    return {
        "loo_speedup": ratio, "loo_speedup_kernel_given": shared_ratio, "loo_difference": difference, "rows_1e6_seconds": million, "peak_gb": peak,
        "rows_per_second": 1e6 / million, "fit_4000_seconds": exact_4000, "exact_error": exact_error,
        "centre_error": centre,
        "tables": [{
            "title": f"Kernel regression (NTK), {D} features, {T} targets",
            "head": ["rows", "how", "seconds of one core", "rows per second"],
            "rows": table,
            "notes": [
                f"One solve against refitting per target at 200 rows, same run: {ratio:.0f} x less time from the rows, "
                f"{shared_ratio:.0f} x with the kernel given to both; largest difference {difference:.1e}.",
                f"A million rows on {CENTRES} centres peak at {peak:.2f} GB of memory, the interpreter and torch included; rows are "
                "not kept.",
                f"Error on new rows (share of the targets' variance), trained on 10,000: exact {exact_error:.3f}, {CENTRES} centres "
                f"{centre:.3f}.",
                "Synthetic rows. Processor time of one thread; exact in float64, centres and the 10,000 in float32.",
            ],
        }],
    }  # fmt: skip


if __name__ == "__main__":
    as_json = asked_for_json(__doc__.split("\n", maxsplit=1)[0])
    publish("kernel_scaling", measure(), as_json=as_json)
