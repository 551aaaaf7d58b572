"""Every figure of the lesson, one function each, in reading order.

    python plots.py                      all figures into figures/
    python plots.py pentagon steering    only these
    python plots.py --list               what there is, a line each
    python plots.py --help               everything else

Each builder takes a seed, measures, draws, and returns (figure, numbers): a matplotlib Figure and a
dict of the numbers in it, the headline first. Its docstring gives the question and the answer, the
status of the result (exact, reproduced from a source, not reproduced, or ours) and the source, where
"the note" is A Toy Model of Interference Weights. What it measures is in `interference.py`, and
`test_all.py` checks the numbers. In a notebook: `plots.pentagon(0)[0]` shows the picture.

Two configurations carry most figures. *simple*: a tied model gives back 100 features through 20
dimensions, stopped early (the note does so on purpose) or converged. *block*: an untied model
learns a random block-diagonal circuit on 128 features through 16 dimensions, stopped early: three
quarters of its targets are silent, and its loss is 6-19 % below that of the best constant answer.

One meaning, one mark: real weights are green triangles, interference weights orange dots; blue is
positive or helpful, vermilion negative or harmful. The palette is that of Okabe and Ito.
"""
import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)   # Ctrl-C while importing: just end
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))     # python -P leaves it out

import interference as itf                         # before NumPy: it pins BLAS threads
from toymodel import as_script, check_whole, relu, squared_error

import argparse
import contextlib
import functools
import io
import pathlib
import tempfile
import textwrap
import time

backend = os.environ.pop("MPLBACKEND", None)       # may not be installed, and none is needed here
import matplotlib
if backend:
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

STYLE = {"font.size": 15, "axes.titlesize": 16, "axes.spines.top": False,
         "axes.spines.right": False, "savefig.dpi": 100, "figure.dpi": 100, "lines.linewidth": 3,
         "legend.fontsize": 14, "hatch.linewidth": 1.5, "svg.hashsalt": "interference weights"}
BLUE, SKY, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#CC79A7"
GREEN, ORANGE, GREY = "#009E73", "#E69F00", "#999999"
REAL, INTERFERENCE = {"color": GREEN, "marker": "^"}, {"color": ORANGE, "marker": "."}
DIVERGING = LinearSegmentedColormap.from_list(
    "signed", [(0, VERMILION), (0.5, "white"), (0.75, BLUE), (1, "#00263E")])
RANKINGS = {  # how a ranking is drawn everywhere: label, colour, line
    "ceiling": ("exact \u0394L, another sample", "black", "-"),
    "second_order": ("second order", BLUE, (0, (6, 2))),
    "era": ("ERA", VERMILION, "-."),
    "target_weighted": ("target-weighted", SKY, (0, (8, 2, 1, 2, 1, 2))),
    "effectiveness": ("effectiveness", "#666666", (0, (3, 1))),
    "weight": ("weight", ORANGE, "-"),
    "twera": ("TWERA, published", PURPLE, ":"),
    "frequency": ("frequency", GREY, (0, (1, 2))),
}
FIGURES = {}                                       # name -> builder, in reading order

# --- Drawing --------------------------------------------------------------------------------------


@contextlib.contextmanager
def style():
    """matplotlib's defaults and then ours, whatever the user's settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


class Slide(Figure):
    """A Figure that fits a 1280 x 720 projector and looks the same wherever it is shown."""

    def draw(self, renderer):
        with style():
            super().draw(renderer)

    def savefig(self, *arguments, **options):
        with style():
            super().savefig(*arguments, **options)

    def _repr_png_(self):                          # how a notebook shows it
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def figure(builder):
    """Make `builder` a figure of the lesson: in our style, its numbers plain Python, in FIGURES."""
    @functools.wraps(builder)
    def build(seed=0, *settings):
        with style():
            slide, numbers = builder(check_whole("seed", seed, 0), *settings)
        return slide, {name: np.asarray(value).tolist() for name, value in numbers.items()}

    FIGURES[builder.__name__] = build
    return build


def new_figure(columns=1, rows=1, width=12.8, height=6.2, **options):
    """A Slide and its axes, one or an array of them."""
    slide = Slide(figsize=(width, height), layout="constrained")
    return slide, slide.subplots(rows, columns, **options)


def caption(slide, text):
    """What to see, under a figure: two sentences at most."""
    text = " ".join(text.split()).replace(" %", "\u00a0%")     # a space that does not break
    slide.supxlabel(textwrap.fill(text, int(8.6 * slide.get_figwidth())), fontsize=15)


def heatmap(ax, matrix, title, limit=1, digits=None, labels=("source j", "target i")):
    """A matrix in colours symmetric about 0; `digits` also writes the entries of a small one."""
    image = ax.imshow(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title=title, xlabel=labels[0], ylabel=labels[1])
    if digits is not None:
        for (i, j), value in np.ndenumerate(matrix):
            ax.text(j, i, f"{np.round(value, digits) + 0:.{digits}f}", ha="center", va="center",
                    fontsize=13, color="white" if value > 0.6 * limit else "black")
    return image


def arrows(ax, W, title):
    """Features in the plane: the columns of W (2, n) as numbered arrows."""
    for i, (right, up) in enumerate(W.T):
        length = np.hypot(right, up)
        ax.annotate("", (right, up), (0, 0), arrowprops={"arrowstyle": "->", "lw": 3, "color": "k"})
        label = np.array([right, up]) * max(1.17 * length, 0.3) / length
        ax.text(*label, str(i), ha="center", va="center", weight="bold")
    ax.set(title=title, xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xticks=(-1, 0, 1),
           yticks=(-1, 0, 1))


def histograms(ax, groups, bins, **labels):
    """Filled outlines over each other: groups is a list of (label, colour, hatch, values)."""
    for label, color, hatch, values in groups:
        ax.hist(values, bins, histtype="stepfilled", facecolor=(color, 0.35), edgecolor=color,
                hatch=hatch, lw=2, label=f"{label}: {len(values)}")
    ax.set(**labels)
    ax.legend(loc="upper right")


def helps_and_harms(ax, weights, dL, bins, **labels):
    """How many weights help and how many harm, by the size of the weight."""
    histograms(ax, [("harms (\u0394L < 0)", VERMILION, "\\\\", weights[dL < 0]),
                    ("helps (\u0394L > 0)", BLUE, "//", weights[dL > 0])], bins,
               xlabel="virtual weight", ylabel="number of weights", yscale="log", **labels)


def scatter(ax, horizontal, vertical, is_real, size=16, **labels):
    """One point per weight, told apart by colour and by marker; real weights lie on top."""
    for mask, mark, area, name in ((~is_real, INTERFERENCE, size, "interference"),
                                   (is_real, REAL, 3 * size, "real")):
        ax.scatter(horizontal[mask], vertical[mask], s=area, alpha=0.7, linewidths=0,
                   label=f"{name}: {mask.sum()}", rasterized=True, **mark)
    ax.axhline(0, color="0.8", lw=1, zorder=0)
    ax.axvline(0, color="0.8", lw=1, zorder=0)
    ax.set(**labels)
    ax.legend(loc="lower right", markerscale=2)


def log_ticks(axis, values):
    """Name these values, and only these, on a logarithmic axis."""
    axis.set_ticks(values, [f"{value:g}" for value in values])
    axis.set_ticks([], minor=True)


def correlation(a, b):
    """Pearson's r of all entries of two arrays."""
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


# --- The figures: superposition, and weights in superposition -------------------------------------

FILM_STEPS = (0, *np.unique(np.geomspace(1, 600, 30).astype(int)).tolist())


@figure
def training(seed, step=FILM_STEPS[-1]):
    """How do a pentagon and two kinds of weight come about? By parting: watch the film.

    One moment of training; the command line makes a film of all FILM_STEPS, an animated GIF whatever
    --format says. Status: reproduced. Source: Toy Models of Superposition, and the note.
    """
    small, large = (run[step]["W"] for run in itf.film(seed, FILM_STEPS))
    U = large.T @ large
    real = np.eye(len(U), dtype=bool)
    slide, (left, right) = new_figure(2, width=10, height=5.4)
    slide.suptitle(f"training step {step}", weight="bold", family="monospace")
    arrows(left, small, "5 features in 2 dimensions")
    histograms(right, [("interference", ORANGE, "", U[~real]), ("real", GREEN, "", U[real])],
               np.linspace(-1, 1.5, 51), title="100 features in 20 dimensions", yscale="log",
               xlabel="virtual weight", ylabel="number of weights", ylim=(0.7, 20000))
    return slide, {"final diagonal": U[real].mean(), "frames": len(FILM_STEPS)}


@figure
def circuit(seed, n=5, m=2, source=1, target=3):
    """What is a virtual weight? All paths from a source to a target, taken together as one arrow.

    A drawing, without data. Status: exact (a definition). Source: the note, introduction.
    """
    slide, (small, lifted) = new_figure(2, height=6.4)
    heights = np.linspace(1, 0, n)
    middles = np.linspace(0.75, 0.25, m)
    for ax, title in ((small, "the small model: through the middle"),
                      (lifted, "lifted: one arrow for every pair")):
        for i, height in enumerate(heights):
            ax.plot([0, 2], [height, height], "o", color="k", ms=16, zorder=3)
            ax.text(-0.12, height, f"$x_{i}$", ha="right", va="center", fontsize=20)
            ax.text(2.12, height, f"$z_{i}$", ha="left", va="center", fontsize=20)
        ax.set(title=title, xlim=(-0.4, 2.4), ylim=(-0.3, 1.1))
        ax.axis("off")
    small.plot([1] * m, middles, "s", color="k", ms=20, zorder=3)
    for middle in middles:
        for height in heights:
            small.plot([0, 1, 2], [height, middle, height], color="0.85", lw=1.5, zorder=1)
        small.plot([0, 1, 2], [heights[source], middle, heights[target]], color=ORANGE, lw=4,
                   ls="--", zorder=2)
    small.text(0.5, -0.22, "$W_{down}$", ha="center", fontsize=20)
    small.text(1.5, -0.22, "$W_{up}$", ha="center", fontsize=20)
    for i in range(n):
        for j in range(n):
            lifted.plot([0, 2], [heights[j], heights[i]], color="0.85", lw=1.5, zorder=1)
    for end, color, line, text in ((source, GREEN, "-", f"real: $U_{{{source}{source}}}$"),
                                   (target, ORANGE, "--",
                                    f"interference: $U_{{{target}{source}}}$")):
        lifted.annotate("", (1.93, heights[end]), (0.05, heights[source]),
                        arrowprops={"arrowstyle": "-|>,head_width=0.6,head_length=1", "lw": 4,
                                    "color": color, "ls": line})
        lifted.text(1.35, heights[source] + 0.68 * (heights[end] - heights[source]) + 0.06, text,
                    color=color, weight="bold", fontsize=17, ha="center",
                    bbox={"color": "white", "pad": 1})
    lifted.text(1, -0.22, r"$U_{ij} = \sum_k (W_{up})_{ik} (W_{down})_{kj}$", ha="center",
                fontsize=20)
    caption(slide, """Paths from one source to one target add up to one virtual weight. The task
        asks for few of them; the others exist because features share the middle.""")
    return slide, {"paths per virtual weight": m, "virtual weights": n * n}


@figure
def pentagon(seed):
    """How do 5 features share 2 dimensions? The sparser they are, the more of them move in.

    Dense features: the two most important get an axis each. Sparser: two antipodal pairs. Sparser
    still: all five, as a pentagon. Status: reproduced. Source: Toy Models of Superposition (Elhage
    et al. 2022), introduction.
    """
    decay, densities = 0.9, (1.0, 0.2, 0.05)
    slide, axes = new_figure(3, 2, height=7.2)
    numbers, failed, starts = {}, 0, 0
    for density, plane, grid in zip(densities, *axes):
        trained = itf.pentagon_models(seed, density, decay)
        losses = np.array([loss for loss, _ in trained])
        failed += int(np.sum(losses > 1.02 * losses[0]))
        starts += len(losses)
        W = trained[0][1].model.W
        stored = W[:, np.linalg.norm(W, axis=0) > 0.5]
        angles = np.sort(np.degrees(np.arctan2(stored[1], stored[0])))
        numbers[f"gaps at density {density:g}"] = np.diff(angles, append=angles[0] + 360)
        arrows(plane, W, f"density {density:g}")
        image = heatmap(grid, W.T @ W, "", digits=1)
    slide.colorbar(image, ax=axes[1], shrink=0.9, label="virtual weight U")
    last = numbers[f"gaps at density {densities[-1]:g}"]
    caption(slide, f"""Off the diagonal of U stands interference. Pentagon: {last.min():.0f} to
        {last.max():.0f} degrees between neighbours; {failed} of {starts} starts ended in worse
        arrangements.""")
    return slide, {"widest gap (degrees)": last.max(), "narrowest gap (degrees)": last.min(),
                   "failed starts": failed, **numbers}


@figure
def decomposition(seed):
    """Can U be split into real and interference weights? Yes, and here two definitions agree.

    Definition 1: real is what training without a bottleneck arrives at, weights and bias. (With the
    trained bias held fixed the weights make up for it.) Definition 2: real is each weight whose
    ablation raises the loss by more than 1e-4. Status: reproduced. Source: the note.
    """
    model = itf.simple_model(seed)
    n, A = len(model.U), model.task.A
    start = model.U, model.b, model.task
    U_star, b_star = itf.ideal_weights(*start, seed=seed, progress=itf.counter)
    U_fixed, _ = itf.ideal_weights(*start, seed=seed, train_bias=False, progress=itf.counter)
    spread = model.U[~np.eye(n, dtype=bool)].std()
    on_diagonal = np.diag(model.is_real).sum()
    slide, axes = new_figure(4, 2, height=7.2)
    rows = ((A, "A, what the task asks for", "= ideal U* (Definition 1)",
             itf.decompose_by_ideal(model.U, U_star)),
            (None, "", f"= real: \u0394L > {itf.THRESHOLD:g} (2)",
             itf.decompose_by_loss(model.U, model.dL)))
    heatmap(axes[0, 0], A, "A: the task")
    for (_, whole, real, rest), (_, _, title, parts) in zip(axes, rows):
        image = heatmap(whole, model.U, "U: the model")
        heatmap(real, parts[0], title)
        heatmap(rest, parts[1], "+ interference")
    axes[1, 0].axis("off")
    for ax in axes.flat:
        ax.set(xlabel="", ylabel="", xticks=(), yticks=())
    slide.colorbar(image, ax=axes[1, 0], location="left", fraction=0.3, label="weight from j to i")
    caption(slide, f"""Both definitions of a real weight find the diagonal. What is left has
        standard deviation {spread:.2f}.""")
    return slide, {"interference std": spread, "diagonal mean": np.diag(model.U).mean(),
                   "U* off identity": np.abs(U_star - A).max(),
                   "U* diagonal, bias fixed": np.diag(U_fixed).mean(),
                   "ideal loss ratio": model.loss_with(U_star, b_star) / model.loss,
                   "real": model.is_real.sum(), "real on diagonal": on_diagonal}


@figure
def weight_histogram(seed):
    """What would one see with nothing but the weights? A bulk and, apart from it, a bump.

    The bulk is interference: skewed, with its peak above 0 and a long tail below. Status:
    reproduced. Source: the note; the shape is that of the logit-weight histograms in Towards
    Monosemanticity (Bricken et al. 2023), for example of its Hebrew feature.
    """
    model = itf.simple_model(seed)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    bins = np.linspace(model.U.min(), model.U.max(), 61)
    counts, _ = np.histogram(rest, bins)
    peak = bins[np.argmax(counts):][:2].mean()
    harms = np.mean(model.dL[~model.is_real] < 0)
    slide, (whole, row) = new_figure(2, sharex=True)
    helps_and_harms(whole, model.U, model.dL, bins, title=f"all {model.U.size} weights")
    helps_and_harms(row, model.U[0], model.dL[0], bins, title="the weights into feature 0")
    for ax in (whole, row):
        ax.set_ylim(0.7, 30 * ax.get_ylim()[1])
    caption(slide, f"""Interference peaks at {peak:+.2f} with a long tail below; real weights are the
        bump at {real.mean():.2f}. {100 * harms:.0f} % of interference weights harm.""")
    return slide, {"real mean": real.mean(), "interference mean": rest.mean(),
                   "interference peak": peak, "gap": real.min() - rest.max(),
                   "share that harms": harms}


@figure
def two_models(seed):
    """Does interference repeat when a model is trained again? No; real weights do.

    Undertrained: two seeds share no interference. Converged: each still has its own, but with a
    hard upper edge. Status: reproduced. Source: the note.
    """
    slide, axes = new_figure(2, sharex=True, sharey=True, height=7)
    numbers = {}
    for ax, name, steps, schedule in zip(axes, ("undertrained", "converged"), (300, 3000),
                                         ("constant", "cosine")):
        first, second = (itf.simple_model(s, steps, schedule=schedule) for s in (seed, seed + 1))
        real = first.task.A > 0
        r = correlation(first.U[~real], second.U[~real])
        edge = np.quantile(first.U[~real], 0.999)
        scatter(ax, first.U, second.U, real, xlabel="U, one seed", ylabel="U, another seed",
                title=f"{name}: {steps} steps", aspect="equal", xlim=(-1, 1.6), ylim=(-1, 1.6))
        numbers |= {f"{name} interference r": r, f"{name} edge": edge,
                    f"{name} diagonal sd": first.U[real].std(),
                    f"{name} smallest real": first.U[real].min()}
    axes[1].axvline(edge, color="k", lw=1.5, linestyle="--")
    axes[1].text(edge + 0.04, 0.75, f"99.9 % of\ninterference\nis below {edge:.2f}")
    caption(slide, f"""Interference of two seeds is uncorrelated: r =
        {numbers['undertrained interference r']:.2f} and {r:.2f}. Real weights are positive in
        both.""")
    return slide, numbers


# --- The figures: the hard model, and heuristics --------------------------------------------------


@figure
def block_histogram(seed):
    """What if real and interference weights overlap? Then no threshold on the weight finds them.

    Status: reproduced. Source: the note; the shape is that of the base64 feature in Towards
    Monosemanticity (Bricken et al. 2023).
    """
    model = itf.block_model(seed)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    overlap = np.mean(real < np.quantile(rest, 0.99))
    harms = np.mean(model.dL < 0)
    slide, (whole, positive) = new_figure(2)
    helps_and_harms(whole, model.U, model.dL, 50, title=f"all {model.U.size} weights",
                    ylim=(0.7, 60000))
    histograms(positive, [("interference", ORANGE, "", rest[rest > 0]), ("real", GREEN, "//", real)],
               np.linspace(0, model.U.max(), 31), title="the positive ones, cut off",
               xlabel="virtual weight", ylabel="number of weights", ylim=(0, len(real)))
    caption(slide, f"""{100 * harms:.0f} % of all weights harm. {100 * overlap:.0f} % of the real
        ones hide: they are smaller than the top 1 % of interference.""")
    return slide, {"overlap": overlap, "interference std": rest.std(),
                   "interference mean": rest.mean(), "share that harms": harms,
                   "silent targets": np.sum(~model.live),
                   "loss over best constant's": model.loss / model.y.var(axis=0).sum()}


@figure
def learned_vs_ideal(seed):
    """What became of each ideal weight? It was shrunk or not learned; others were made up.

    Status: reproduced. Source: the note.
    """
    model = itf.block_model(seed)
    A, U = model.task.A, model.U
    wanted = A > 0
    unlearned = wanted & (U < 0.2 * A)
    shrunk = wanted & ~unlearned & (U < A)
    matters = np.abs(model.dL) > itf.THRESHOLD
    spread = np.where(wanted, A, np.random.default_rng(seed).uniform(-0.06, 0.02, A.shape))
    slide, ax = new_figure(height=7)
    for mask, mark, size, name in (
            (~matters, {"color": "0.7", "marker": "."}, 25, "within \u00b1 0.0001"),
            (matters & ~model.is_real, {"color": VERMILION, "marker": "v"}, 45, "harms"),
            (model.is_real, REAL, 70, "real")):
        ax.scatter(spread[mask], U[mask], s=size, linewidths=0, alpha=0.8, rasterized=True, **mark,
                   label=f"{name}: {mask.sum()}")
    ax.plot([0, 1], [0, 1], "k--", lw=1.5)
    ax.plot([0, 1], [0, 0.2], "k:", lw=1.5)
    for height, text in ((0.95, "learned exactly"), (0.5, f"shrunk: {shrunk.sum()}"),
                         (-0.3, f"not learned (below a fifth): {unlearned.sum()}")):
        ax.text(1.02, height, text, weight="bold", va="center")
    ax.text(0.04, 0.93 * U.min(), f"interference (A = 0): {np.sum(~wanted)}", weight="bold")
    ax.set(xlabel="ideal weight A (zeros are spread out)", ylabel="learned weight U",
           xlim=(-0.1, 1.55), title=f"block model: {wanted.sum()} weights to learn")
    ax.legend(loc="upper left", bbox_to_anchor=(0.1, 1), title="by \u0394L", markerscale=1.5)
    caption(slide, f"""{100 * np.mean(U[wanted] < A[wanted]):.0f} % of ideal weights were learned too
        small, {100 * unlearned.sum() / wanted.sum():.0f} % hardly or with the wrong sign. Where
        nothing is wanted, weights reach {U[~wanted].max():.1f}.""")
    return slide, {"shrunk": np.mean(U[wanted] < A[wanted]),
                   "unlearned": unlearned.sum() / wanted.sum(),
                   "unlearned, negative": np.sum(wanted & (U < 0)) / wanted.sum(),
                   "largest interference": U[~wanted].max()}


@figure
def block_two_models(seed):
    """Which weights do two runs share? It depends on which are looked at: selection makes r.

    Status: that real weights agree better than interference is reproduced; r is ours. Source: the
    note.
    """
    first, second = itf.block_model(seed), itf.block_model(seed, run=1)
    in_A = first.task.A > 0
    both = first.is_real & second.is_real
    sets = {"real in run 1": first.is_real, "all of A": in_A, "real in both runs": both}
    slide, axes = new_figure(3, sharex=True, sharey=True, height=6)
    numbers = {}
    for ax, (name, mask) in zip(axes, sets.items()):
        numbers[f"r, {name}"] = r = correlation(first.U[mask], second.U[mask])
        scatter(ax, first.U, second.U, mask, size=6, xlabel="U, run 1", aspect="equal",
                title=f"{name}: r = {r:.2f}")
        ax.legend().remove()
    axes[0].set_ylabel("U, run 2")
    rest = correlation(first.U[~first.is_real & ~in_A], second.U[~first.is_real & ~in_A])
    found = first.is_real & in_A
    again = found & second.is_real
    caption(slide, f"""The same two runs of one circuit three times. {again.sum()} of
        {found.sum()} real weights in A are real again in run 2; interference: r = {rest:.2f}.""")
    return slide, {**numbers, "interference r": rest, "again": again.sum() / found.sum()}


@figure
def precision_recall(seed):
    """Can cheap heuristics find the real weights? In part; most of it is knowing silent targets.

    Labels (dL > 1e-4) and scores come from different samples. Status: the order ERA, target-weighted,
    weight is reproduced; TWERA as published and the levels are not; second order is ours. Source:
    the note, and Circuit Tracing.
    """
    model = itf.block_model(seed)
    slide, axes = new_figure(2, sharey=True, height=7)
    numbers = {}
    for ax, title, suffix, targets in ((axes[0], "all targets", "", slice(None)),
                                       (axes[1], "live targets only", ", live", model.live)):
        real = model.is_real[targets]
        for name, (label, color, line) in RANKINGS.items():
            precision, recall = itf.precision_recall(model.scores[name][targets], real)
            numbers[name + suffix] = area = itf.average_precision(precision, recall)
            numbers[f"{name} at recall 0.2{suffix}"] = precision[np.searchsorted(recall, 0.2)]
            ax.plot(recall, precision, ls=line, color=color,
                    label=f"{numbers[name]:.2f}   {area:.2f}   {label}")
        ax.set(xlabel="recall: real weights found", title=title, ylim=(0, 1.04))
    axes[0].set_ylabel("precision: what is found is real")
    axes[1].legend(title="average precision: all, live", loc="center left", handlelength=3,
                   bbox_to_anchor=(1, 0.5))
    silent = np.sum(~model.live)
    ranked = itf.ranking(model.scores["twera"])[:100] // len(model.U)      # targets of the top 100
    caption(slide, f"""Weight, ERA and TWERA differ because {silent} of {len(model.U)} targets are
        silent. Among live targets they are about equally good.""")
    return slide, {"era": numbers["era"], **numbers, "base rate": model.is_real.mean(),
                   "silent targets": silent,
                   "silent in TWERA's top 100": np.sum(~model.live[ranked])}


@figure
def stages(seed, steps=(250, 500, 1000, 2000, 4000, 8000)):
    """Is that a law or a moment? Ranks of heuristics are a moment; what holds on live targets stays.

    Status: ours. The note stops its model at a stage that it does not name.
    """
    runs = [itf.block_stages(seed, run, steps) for run in (0, 1)]
    names = ("second_order", "era", "weight", "twera")
    table = {key: [] for key in ("loss", "silent", "r", *names, *(f"{n}, live" for n in names))}
    for model, other in zip(*runs):
        rest = model.task.A == 0
        table["loss"].append(model.loss / model.y.var(axis=0).sum())
        table["silent"].append(np.mean(~model.live))
        table["r"].append(correlation(model.U[rest], other.U[rest]))
        for name in names:
            score = itf.SCORES[name](model.U, model.b, *model.other)
            table[name].append(model.average_precision(score))
            table[f"{name}, live"].append(model.average_precision(score, model.live))
    slide, axes = new_figure(3, sharex=True, sharey=True, height=6.6)
    for key, label, color, line in (("loss", "loss / best constant's", "k", "-"),
                                    ("silent", "share of silent targets", GREY, "--"),
                                    ("r", "interference r, two runs", ORANGE, ":")):
        axes[0].plot(steps, table[key], color=color, ls=line, marker="o", label=label)
    for name in names:
        label, color, line = RANKINGS[name]
        axes[1].plot(steps, table[name], ls=line, color=color, marker="o", label=label)
        axes[2].plot(steps, table[f"{name}, live"], ls=line, color=color, marker="o", label=label)
    for ax, title in zip(axes, ("the model", "average precision", "on live targets only")):
        ax.set(title=title, xscale="log", xlabel="training steps", ylim=(-0.05, 1.45))
        log_ticks(ax.xaxis, steps[::2])
        ax.set_yticks(np.linspace(0, 1, 6))
        ax.axvline(2000, color="0.8", lw=8, zorder=0)
        ax.legend(loc="upper left")
    caption(slide, """All other block figures are the grey moment, 2000 steps. Silent targets and
        the lead of ERA belong to it; equality on live targets does not.""")
    return slide, {"interference r at the end": table["r"][-1], **table}


@figure
def loss_gain(seed):
    """How much of the loss do a few precise weights explain? More than all of them together.

    Loss gain: the sum of dL over the kept weights, here over that of all real weights, the oracle
    (weights with 0 < dL < 1e-4 can add a little). Status: reproduced; second order is ours. Source:
    the note.
    """
    model = itf.block_model(seed)
    oracle = model.dL[model.is_real].sum()
    same = model.dL.sum() / oracle
    slide, ax = new_figure(height=6.8)
    numbers = {"all over oracle": same}
    kept = np.arange(1, model.U.size + 1)
    for name in ("second_order", "era", "target_weighted", "weight"):
        label, color, line = RANKINGS[name]
        precision, _ = itf.precision_recall(model.scores[name], model.is_real)
        gain = itf.loss_gain(model.scores[name], model.dL) / oracle
        precise = np.flatnonzero(precision >= 0.8)
        numbers |= {f"{name} best": gain.max(), f"{name} at 80 %": gain[precise].max(initial=0)}
        ax.plot(kept, gain, ls=line, color=color, label=f"{label}, best {gain.max():.2f}")
        ax.plot(kept[precise[-1:]], gain[precise[-1:]], "o", color=color, mec="k", ms=13)
    ax.plot(model.is_real.sum(), 1, "*", **{"color": GREEN, "mec": "k", "ms": 24}, zorder=4,
            label="oracle: the real weights")
    ax.plot([], [], "o", color="w", mec="k", ms=13, label="last point of 80 % precision")
    ax.axhline(same, color="k", lw=1.5, ls="--", label=f"same loss as the original: {same:.2f}")
    ax.axhspan(same, 1.08, color="0.93", zorder=0)
    ax.text(1.2, 1.02, "by this measure better than the original")
    ax.set(xscale="log", xlabel="number of weights kept, best first",
           ylabel="loss gain / the oracle's", ylim=(0, 1.08))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    caption(slide, f"""All weights together gain {same:.2f} of what the real ones alone do:
        interference costs the rest.""")
    return slide, numbers


@figure
def second_order(seed):
    """Do two matrix products give the effect of every weight? Nearly: they miss only gate flips.

    Status: ours. Source: Optimal Brain Damage (LeCun, Denker, Solla 1990).
    """
    model = itf.block_model(seed)
    estimate = itf.second_order_effects(model.U, model.b, model.x, model.y)
    flips = itf.gate_flip_rate(model.U, model.b, model.x)
    error, r = np.abs(estimate - model.dL), correlation(estimate, model.dL)
    often = flips > np.quantile(flips, 0.99)
    error_share = error[often].sum() / error.sum()
    effect_share = np.abs(model.dL[often]).sum() / np.abs(model.dL).sum()
    ends = 1.3 * min(estimate.min(), model.dL.min()), 1.3 * max(estimate.max(), model.dL.max())
    slide, ax = new_figure(height=7)
    for mask, mark, name in ((~often, {"color": SKY, "marker": "o"}, "other weights"),
                             (often, {"color": "k", "marker": "x"}, "the 1 % that flip gates most")):
        ax.scatter(estimate[mask], model.dL[mask], s=35, alpha=0.7, label=name, rasterized=True,
                   linewidths=1.5 * (mark["marker"] == "x"), **mark)
    ax.plot(ends, ends, color=GREY, lw=1.5, zorder=0, label="estimate = exact")
    ax.set(xlabel="second-order estimate", ylabel="exact \u0394L", xlim=ends, ylim=ends,
           title=f"the effect of {model.U.size} weights: r = {r:.3f}")
    for scale in (ax.set_xscale, ax.set_yscale):
        scale("symlog", linthresh=itf.THRESHOLD)
    ax.legend(loc="upper left", markerscale=1.5)
    caption(slide, f"""The marked 1 % carry {100 * error_share:.0f} % of the error, but also
        {100 * effect_share:.0f} % of all |\u0394L|: they are simply the large ones.""")
    return slide, {"r": r, "error share of flippers": error_share,
                   "effect share of flippers": effect_share,
                   "overestimated among flippers": np.mean(estimate[often] > model.dL[often])}


@figure
def pruned_loss(seed, sizes=(10, 30, 60, 100, 200, 500, 1000, 2000, 4000, 8000, 12000, 16384)):
    """Does a good ranking make a good small model? Not by itself: pruning shifts what biases undo.

    Each ranking keeps its best weights, and the loss is the true one, on one set of examples. Ranked
    by signed weight it blows up, as positive interference is kept and negative dropped; |U| is the
    control. Refitting the bias (exactly: see `best_bias`) repairs that. Status: ours.
    """
    model, (mask, mask_bias) = itf.block_model(seed), itf.block_mask(seed)
    x, y = (part[:4096] for part in model.other)
    scores = {name: model.scores[name] for name in RANKINGS if name not in ("twera", "effectiveness")}
    scores["size"] = np.abs(model.U)
    losses = {(name, refit): itf.pruned_loss(model.U, model.b, x, y, score, sizes, refit)
              for name, score in scores.items() for refit in (False, True)}
    whole = losses["ceiling", False][-1]                    # all weights, on the same examples
    peak = int(np.argmax(itf.loss_gain(model.scores["weight"], model.dL))) + 1
    at_peak = itf.pruned_loss(model.U, model.b, x, y, scores["weight"], [peak])[0]
    star = itf.pruned_loss(model.U, mask_bias, x, y, mask, [mask.sum()])[0]
    refitted = itf.pruned_loss(model.U, mask_bias, x, y, mask, [mask.sum()], refit_bias=True)[0]
    slide, axes = new_figure(2, sharex=True, sharey=True, height=7.2)
    for ax, refit, title, loss in zip(axes, (False, True), ("bias as trained", "bias refitted"),
                                      (star, refitted)):
        for name in scores:
            label, color, line = RANKINGS.get(name, ("|weight|", "k", (0, (1, 1))))
            ax.plot(sizes, losses[name, refit], ls=line, color=color, label=label)
        ax.axhline(whole, color="k", lw=1, ls=":", label="whole model")
        ax.plot(mask.sum(), loss, "*", color=PURPLE, mec="k", ms=22, label="learned mask", zorder=4)
        ax.set(xscale="log", yscale="log", title=title, xlabel="number of weights kept")
        log_ticks(ax.yaxis, (2, 3, 5, 10, 20, 30))
    axes[0].set_ylabel("true loss")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)
    worst = {name: losses[name, False].max() / whole for name in ("weight", "size")}
    caption(slide, f"""Ranked by signed weight the loss reaches {worst["weight"]:.1f} times the whole
        model's, by size {worst["size"]:.1f}. Refitted, the mask's {mask.sum()} weights have
        {refitted / whole:.2f} times.""")
    return slide, {"mask refitted, over whole": refitted / whole, "mask loss, refitted": refitted,
                   "mask loss": star, "whole loss": whole, "mask kept": mask.sum(),
                   "mask in A": np.sum(mask & (model.task.A > 0)),
                   "best refitted ranking": min(losses[name, True].min() for name in scores),
                   "ratio at the peak": at_peak / whole, "worst ratio": worst["weight"],
                   "worst ratio by size": worst["size"],
                   "1000 weights": losses["weight", False][6] / whole,
                   "1000 weights, refitted": losses["weight", True][6] / whole}


@figure
def sampled_truth(seed, k=100, draws=(41, 82, 164, 328, 656), repeats=200):
    """Can the exact effect of a few weights tell which heuristic is better? If drawn by rank, yes.

    The note's second takeaway, "ground truth for smaller numbers of weights". Precision among the
    top k of two rankings is estimated from weights drawn with known probabilities. Status: ours;
    the estimator is that of Horvitz and Thompson (1952).
    """
    model, rng = itf.block_model(seed), np.random.default_rng((seed, 5))
    names = ("era", "weight")
    rank = {name: itf.ranks(model.scores[name]) for name in names}
    truth = {name: np.mean(model.is_real[rank[name] <= k]) for name in names}
    designs = {"by rank": lambda size: itf.inclusion_probabilities(
                   [model.scores[name] for name in names], size),
               "uniform": lambda size: np.full(model.U.shape, size / model.U.size)}

    def estimates(probability):
        """Both precisions with standard errors, from one sample of weights."""
        drawn = rng.random(model.U.shape) < probability
        return {name: itf.estimated_precision(model.is_real[drawn], rank[name][drawn],
                                              probability[drawn], k) for name in names}

    slide, (left, right) = new_figure(2)
    for shift, name in ((0.96, "era"), (1.04, "weight")):
        label, color, _ = RANKINGS[name]
        shown = [estimates(designs["by rank"](size))[name] for size in draws]
        left.errorbar(shift * np.array(draws), [p for p, _ in shown], [1.96 * s for _, s in shown],
                      fmt="o", ms=9, color=color, capsize=5, label=f"{label}: one sample, 95 %")
        left.axhline(truth[name], color=color, lw=2, ls="--")
    numbers = {}
    for (design, probabilities), mark in zip(designs.items(), ("ko-", "ks:")):
        right_order = []
        for size in draws:
            samples = [estimates(probabilities(size)) for _ in range(repeats)]
            right_order.append(np.mean([s["era"][0] > s["weight"][0] for s in samples]))
            for name in names:
                covered = [abs(p - truth[name]) <= 1.96 * error
                           for p, error in (sample[name] for sample in samples)]
                numbers[f"{name} covered, {size} {design}"] = np.mean(covered)
            numbers[f"right order, {size} {design}"] = right_order[-1]
        right.plot(draws, right_order, mark, label=f"drawn {design}")
    left.set(title=f"precision among the top {k}", ylim=(0, 1))
    right.set(title=f"share of {repeats} samples that rank them rightly", ylim=(0, 1.04))
    for ax in (left, right):
        ax.set(xscale="log", xlabel=f"weights drawn, of {model.U.size}")
        log_ticks(ax.xaxis, draws)
        ax.legend(loc="upper right" if ax is left else "center right")
    one_percent = model.U.size // 100 + 1
    caption(slide, f"""The exact effect of {one_percent} weights, drawn by rank, tells ERA from weight
        in {100 * numbers[f"right order, {draws[2]} by rank"]:.0f} % of samples; drawn uniformly, in
        {100 * numbers[f"right order, {draws[2]} uniform"]:.0f} %. Dashed: the truth.""")
    return slide, {"right order by rank": numbers[f"right order, {draws[2]} by rank"],
                   "right order uniform": numbers[f"right order, {draws[2]} uniform"],
                   "covered, ERA": numbers[f"era covered, {draws[2]} by rank"],
                   "covered, weight": numbers[f"weight covered, {draws[2]} by rank"],
                   "precision, ERA": truth["era"], "precision, weight": truth["weight"]}


@figure
def compressed_sensing(seed, penalties=(0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5)):
    """Can circuits be read from weights without any data? Linear ones can; a trained relu model not.

    The note asks "Can we beat this?" and names compressed sensing. Each row of W_up is coded in as
    few dual directions as possible (`sparse_code`). Real: A > 0 where the read-out is the linear one
    that fits A best, dL > 1e-4 in the trained model, which gets the best of all penalties. Status:
    ours.
    """
    model = itf.block_model(seed)
    A = model.task.A.astype(float)
    trained = model.model.W_down.astype(float)
    cases = []
    for m in (16, 32):
        W_down = np.random.default_rng((seed, m)).normal(size=(m, len(A)))
        cases.append((f"linear,\n{m} dimensions", W_down / np.linalg.norm(W_down, axis=0), None))
    cases += [("linear, trained\ndirections", trained, None),
              ("trained relu\nmodel", trained, model.model.W_up.astype(float))]
    shown = {"weight": [], "sparse": [], "negative": []}
    for _, W_down, W_up in cases:
        D = itf.dual_directions(W_down)
        real = A > 0 if W_up is None else model.is_real
        W_up = A @ D.T if W_up is None else W_up
        U = W_up @ W_down
        codes = [itf.sparse_code(D, W_up, penalty * np.abs(W_up @ D).max())
                 for penalty in (penalties if real is model.is_real else penalties[:1])]
        for name, scores in (("weight", [U]), ("sparse", codes)):
            shown[name].append(max(itf.average_precision(*itf.precision_recall(score, real))
                                   for score in scores))
        shown["negative"].append(-U[U < 0].sum() / np.abs(U).sum())
    slide, (left, right) = new_figure(2, width=12.8, height=6.4, width_ratios=(3, 2))
    places = np.arange(len(cases))
    for shift, name, color, hatch in ((-0.2, "weight", ORANGE, ""), (0.2, "sparse", BLUE, "//")):
        bars = left.bar(places + shift, shown[name], 0.4, facecolor=(color, 0.6), edgecolor=color,
                        hatch=hatch, label={"sparse": "sparse code"}.get(name, name))
        left.bar_label(bars, fmt="%.2f")
    left.set(title="average precision", ylim=(0, 1.25))
    left.legend(loc="upper right", ncols=2)
    bars = right.barh(places, shown["negative"], color=VERMILION, hatch="\\\\", edgecolor="w")
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set(title="negative share of all |U|", xlim=(0, 1), yticks=places,
              yticklabels=[name for name, *_ in cases])
    right.invert_yaxis()
    left.set_xticks(places, [name for name, *_ in cases])
    caption(slide, """A linear circuit comes back from its weights alone. Behind a relu large negative
        weights cost nothing, and the sum of few directions that the code looks for is gone.""")
    keys = ("linear, 16", "linear, 32", "trained directions", "trained model")
    return slide, {f"{name}, {key}": value for name, values in shown.items()
                   for key, value in zip(keys, values)}


# --- The figures: the appendices ------------------------------------------------------------------


@figure
def weight_sharing(seed):
    """Do the weights of circuits in superposition add? Only if they are orthogonal.

    Two circuits double a feature each, through one middle matrix: M = (M_1 + M_2) / (1 + cos^2 t),
    derived in `shared_middle` for angles t from 90 degrees on. Nothing here is random. Status: exact
    (derived), and measured. Source: the note, Appendix 1.
    """
    degrees = np.array([90, 112.5, 135, 157.5, 180])
    ratios, guess_errors = [], []
    for t in np.radians([*degrees, 60]):
        D = np.array([[1, 0], [np.cos(t), np.sin(t)]])
        joint, one, two = (itf.shared_middle(D, active) for active in ([0, 1], [0], [1]))
        total, guess = one + two, np.where(np.abs(one) > np.abs(two), one, two)
        ratios.append(np.vdot(joint, total) / np.vdot(total, total))
        guess_errors.append(np.linalg.norm(joint - guess) / np.linalg.norm(joint))
    derived = 1 / (1 + np.cos(np.radians(degrees))**2)
    deviation = np.abs(ratios[:-1] / derived - 1).max()
    fine = np.linspace(90, 180, 200)
    slide, (left, right) = new_figure(2)
    left.plot(fine, 1 / (1 + np.cos(np.radians(fine))**2), color=GREY,
              label="1 / (1 + cos\u00b2 angle), derived")
    left.plot(degrees, ratios[:-1], "o", color="k", ms=12, label="trained")
    left.plot(60, ratios[-1], "D", color="w", mec="k", ms=11, label="trained, below 90 degrees")
    left.set(xlabel="angle between the two circuits (degrees)", xticks=(60, *degrees[::2]),
             ylim=(0.4, 1.6), ylabel="joint matrix / sum of separate ones")
    left.legend()
    right.plot(degrees, 100 * np.array(guess_errors[:-1]), "o--", color=PURPLE, ms=12)
    right.set(title="the guess \u201cthe larger of both, entry by entry\u201d", ylim=(0, 45),
              xlabel="angle between the two circuits (degrees)", xticks=degrees[::2],
              ylabel="is off by, %")
    caption(slide, f"""Orthogonal circuits add, antipodal ones share one weight: ratio
        {ratios[0]:.2f} to {ratios[4]:.2f}, within {100 * deviation:.2f} % of the derivation.""")
    return slide, {"largest relative deviation": deviation, "ratios": ratios[:-1],
                   "ratio at 60 degrees": ratios[-1], "guess off by": guess_errors[:-1]}


@figure
def converged_geometry(seed):
    """What is interference made of after convergence? Of geometry, or of a sharp edge.

    Density 0.25: antipodal pairs at every seed, pentagons at most. Density 0.001: no clean shapes,
    but no two features come closer than a bound. Status: reproduced, and the counts vary. Source:
    the note, Appendix 2.
    """
    dense, sparse = (itf.converged_model(seed, density) for density in (0.25, 0.001))
    W = dense.model.W[:, np.linalg.norm(dense.model.W, axis=0) > 0.5]
    W = W / np.linalg.norm(W, axis=0)
    cosines = (W.T @ W)[np.triu_indices(W.shape[1], 1)]
    angles = {"pair": -1, "pentagon, 144\u00b0": np.cos(np.radians(144)), "orthogonal": 0,
              "pentagon, 72\u00b0": np.cos(np.radians(72))}
    near = {name: np.sum(np.abs(cosines - c) < 0.02) for name, c in angles.items()}
    weights = sparse.U[sparse.task.A == 0]
    top = weights.max()
    slide, (left, right) = new_figure(2, height=6.4)
    left.hist(cosines, np.linspace(-1.025, 1.025, 83), color=ORANGE, log=True)
    for level, (name, c) in enumerate(angles.items()):
        height = 10 ** (3.2 + 0.45 * (level % 2))
        left.plot([c, c], [0.6, height], color="k", lw=1, ls=":")
        left.text(c, 1.15 * height, f"{name}: {near[name]}", fontsize=13,
                  ha="left" if c == -1 else "center")
    left.set(title=f"density 0.25: {W.shape[1]} features stored", ylim=(0.6, 20000),
             xlabel="cosine of two features", ylabel="pairs of features")
    counts, edges, _ = right.hist(weights, 60, color=ORANGE)
    densest = edges[np.argmax(counts):][:2].mean()          # the middle of the fullest bin
    right.axvline(top, color="k", lw=2, ls="--", label=f"largest: {top:.2f}")
    right.set(title="density 0.001", xlabel="interference weight", ylabel="number of weights")
    right.legend(loc="upper left")
    caption(slide, f"""Dense features: {near["pair"]} antipodal pairs; how many pentagons varies with
        the seed. Sparse ones: most weights lie just under a sharp upper edge.""")
    return slide, {"antipodal pairs": near["pair"], "pairs at 72 degrees": near["pentagon, 72\u00b0"],
                   "pairs at 144 degrees": near["pentagon, 144\u00b0"],
                   "dimensions used": itf.feature_dimensionality(dense.model.W).sum(),
                   "largest": top, "densest bin": densest,
                   "within a quarter of the edge": np.mean(weights > 0.75 * top)}


@figure
def correlated_features(seed, set_size=100):
    """Is all interference noise? No: where features are correlated, its mean over sets is useful.

    Two sets; features of one come together, of different sets never. Interference then has a
    low-rank part, the set means (measured off the diagonal). With the trained bias they help by
    themselves too; with a refitted one they no longer do. Control: means over random sets. Status:
    reproduced; the bars are ours. Source: the note, Appendix 3.
    """
    model = itf.correlated_model(seed)
    n, U = 2 * set_size, model.U
    set_of, identity = np.arange(n) // set_size, np.eye(n, dtype=bool)
    same_set = set_of[:, None] == set_of
    within, between = U[same_set & ~identity], U[~same_set]
    shuffled = np.random.default_rng((seed, 6)).permutation(n)
    random_means = np.empty_like(U)
    random_means[np.ix_(shuffled, shuffled)] = itf.set_mean_component(
        U[np.ix_(shuffled, shuffled)], set_size)
    means = itf.set_mean_component(U, set_size) * ~identity
    kept = {"all": U, "no set\nmeans": U - means, "no random\nmeans": U - random_means * ~identity,
            "diagonal\n+ means": U * identity + means, "diagonal": U * identity}
    bars = {"trained bias": [], "refitted bias": []}
    for weights in kept.values():
        bias = itf.best_bias(model.x @ weights.T, model.y).astype(U.dtype)
        bars["trained bias"].append(model.loss_with(weights, model.b) / model.loss)
        bars["refitted bias"].append(model.loss_with(weights, bias) / model.loss)
    slide, axes = new_figure(3, width_ratios=(4, 4, 6), height=6)
    slide.colorbar(heatmap(axes[0], U, "virtual weights U"), ax=axes[0], location="bottom")
    histograms(axes[1], [("between sets", ORANGE, "\\\\", between), ("within a set", SKY, "//", within)],
               np.linspace(-1, 0.6, 50), title="interference", xlabel="virtual weight",
               ylabel="number of weights")
    axes[1].set_ylim(0, 1.35 * axes[1].get_ylim()[1])
    for shift, (name, values) in zip((-0.2, 0.2), bars.items()):
        drawn = axes[2].bar(np.arange(5) + shift, values, 0.4, label=name, edgecolor="k",
                            color="0.4" if shift < 0 else "w", hatch="" if shift < 0 else "//")
        axes[2].bar_label(drawn, fmt="%.2f", fontsize=13)
    axes[2].set_xticks(range(5), kept, fontsize=13)
    axes[2].set(title="loss over the whole model's", ylim=(0, 1.9))
    axes[2].legend()
    trained, refitted = bars.values()
    caption(slide, f"""Set means: {within.mean():+.2f} within, {between.mean():+.2f} between. Without
        them the loss is {trained[1]:.2f} times as large; without random sets' means,
        {trained[2]:.2f}.""")
    return slide, {"loss without set means": trained[1], "loss without random means": trained[2],
                   "diagonal and means": trained[3], "diagonal": trained[4],
                   "whole, refitted": refitted[0], "without set means, refitted": refitted[1],
                   "diagonal and means, refitted": refitted[3], "diagonal, refitted": refitted[4],
                   "within mean": within.mean(), "between mean": between.mean()}


@figure
def definitions(seed):
    """Do the definitions agree on the hard model? In part: they ask different questions.

    Definition 1 looks for the circuit, learned or not; Definition 2 removes one weight at a time;
    the mask removes all at once. Status: the disagreement is reproduced; the numbers are ours.
    Source: the note, Appendix 4.
    """
    model, (mask, mask_bias) = itf.block_model(seed), itf.block_mask(seed)
    U_star, b_star = itf.ideal_weights(model.U, model.b, model.task, seed=seed, progress=itf.counter)
    A = model.task.A
    called = {"A": A > 0, "Def. 1": U_star > 0.05, "Def. 2": model.is_real, "mask": mask}
    overlap = np.array([[np.sum(p & q) for q in called.values()] for p in called.values()])
    kept = {name: np.where(called[name], model.U, 0) for name in ("Def. 1", "Def. 2", "mask")}
    x, y = model.x[:8192], model.y[:8192]
    whole = itf.pruned_loss(model.U, model.b, x, y, model.U, [model.U.size])[0]
    bars = {"trained bias": [], "refitted bias": []}
    for name in kept:
        for refit, losses in zip((False, True), bars.values()):
            losses.append(itf.pruned_loss(model.U, model.b, x, y, called[name],
                                          [called[name].sum()], refit)[0])
    change = model.loss_with(kept["Def. 2"], model.b) - model.loss
    predicted = model.dL[~model.is_real].sum()
    slide, (left, right) = new_figure(2, height=6.4)
    left.imshow(overlap, cmap="Greys", vmin=0, vmax=2.2 * overlap.max())
    for (i, j), count in np.ndenumerate(overlap):
        left.text(j, i, count, ha="center", va="center", fontsize=20,
                  weight="bold" if i == j else "normal")
    left.set(title="weights that both call real", xticks=range(4), xticklabels=called,
             yticks=range(4), yticklabels=called)
    for shift, (name, losses) in zip((-0.2, 0.2), bars.items()):
        drawn = right.bar(np.arange(3) + shift, losses, 0.4, label=name, edgecolor="k",
                          color="0.4" if shift < 0 else "w", hatch="" if shift < 0 else "//")
        right.bar_label(drawn, fmt="%.2f")
    right.axhline(whole, color="k", lw=1.5, ls=":", label=f"whole model: {whole:.2f}")
    right.set_xticks(range(3), [f"{name}: {called[name].sum()}" for name in kept])
    right.set(title="loss with only those weights of U", ylim=(0, 1.5 * whole))
    right.legend(loc="upper right")
    missed = called["A"] & ~model.is_real
    barely = missed & (model.U < 0.2 * A)
    caption(slide, f"""Definition 1 finds the circuit, learned or not: {missed.sum()} weights of A are
        not real by loss, {barely.sum()} of them hardly learned.""")
    return slide, {"Definition 1 finds of A": overlap[0, 1] / overlap[0, 0],
                   "Definition 1 finds besides": overlap[1, 1] - overlap[0, 1],
                   "ideal loss ratio": model.loss_with(U_star, b_star) / model.loss,
                   "Definition 2 finds of A": overlap[0, 2] / overlap[0, 0],
                   "mask finds of A": overlap[0, 3] / overlap[0, 0],
                   "Definition 2, loss over whole": bars["trained bias"][1] / whole,
                   "true change": change, "predicted change": predicted, "overlap": overlap}


# --- The figures: beyond the note -----------------------------------------------------------------


@figure
def effectiveness(seed):
    """Do the weights that move the output most help? The very strongest do; below, most harm.

    Effectiveness: mean squared change of the output. Helpfulness: dL, with a 95 % interval. Status:
    ours. Source of both axes: Turner, Wu, Batson (2026), Characterizing interference weights in a
    tiny language model.
    """
    model = itf.block_model(seed)
    effect = itf.effectiveness(model.U, model.b, model.x)
    half = 1.96 * itf.ablation_standard_errors(model.U, model.b, model.x, model.y)
    helps, harms = model.dL > half, model.dL < -half
    order = itf.ranking(effect)
    quarter, top = order[:effect.size // 400], order[:effect.size // 100]
    slide, ax = new_figure(height=7)
    for mask, color, marker, name in ((~helps & ~harms, GREY, ".", "not told apart from 0"),
                                      (harms, VERMILION, "v", "harms"), (helps, BLUE, "D", "helps")):
        ax.scatter(effect[mask], model.dL[mask], s=22, c=color, marker=marker, linewidths=0,
                   alpha=0.6, label=f"{name}: {mask.sum()}", rasterized=True)
    shown = top[::8]
    ax.errorbar(effect.flat[shown], model.dL.flat[shown], half.flat[shown], fmt="none", ecolor="k",
                elinewidth=1, capsize=3, label="95 % interval, some of the top 1 %")
    for last, text in ((quarter[-1], "top 0.25 %"), (top[-1], "top 1 %")):
        ax.axvline(effect.flat[last], color="k", lw=1, ls=":")
        ax.text(effect.flat[last], -0.06, f" {text} \u2192", fontsize=14)
    ax.set(xscale="log", xlim=(1e-6 * effect.max(), 3 * effect.max()),
           xlabel="effectiveness: mean squared change of the output",
           ylabel="helpfulness: \u0394L \u00b1 1.96 errors")
    ax.set_yscale("symlog", linthresh=itf.THRESHOLD)
    ax.legend(loc="upper left", markerscale=2)
    shares = {"helpful in the top 0.25 %": helps.flat[quarter].mean(),
              "helpful in the top 1 %": helps.flat[top].mean(),
              "harmful in the top 1 %": harms.flat[top].mean(), "helpful overall": helps.mean(),
              "harmful overall": harms.mean()}
    percent = {name: round(100 * share) for name, share in shares.items()}
    caption(slide, f"""Of the most effective quarter percent {percent["helpful in the top 0.25 %"]} %
        help. Of the top percent {percent["harmful in the top 1 %"]} % harm; of all weights
        {percent["harmful overall"]} %.""")
    return slide, shares


@figure
def attribution_graph(seed, densities=(0.01, 0.03, 0.1, 0.2, 0.3)):
    """Do one example's graphs side-step interference? Yes, by what they leave out, not attribution.

    An edge is in play if its source is active and its target fires. Precision: of as many strongest
    edges as there are real ones in play, the share that is real. Status: ours. Source of the graphs:
    Circuit Tracing (2025).
    """
    curves = {"weight": [], "attribution": [], "chance": [], "none": [], "all": []}
    for density in densities:
        model = itf.block_model(seed, density=density)
        x, _ = model.task.batch(np.random.default_rng((seed, 3)), 1500)
        for name, value in itf.graph_precision(model.U, model.b, model.is_real, x).items():
            curves[name].append(value)
        precision, _ = itf.precision_recall(model.U, model.is_real)
        curves["all"].append(precision[model.is_real.sum() - 1])
    edges = itf.attribution_graph(model.U, model.b, model.x[0])
    in_play = np.ix_(edges.any(axis=1), edges.any(axis=0))
    slide, axes = new_figure(3, height=6.2, width_ratios=(4, 3, 6))
    heatmap(axes[0], model.U, f"weights at density {densities[-1]:g}", limit=0.5)
    heatmap(axes[1], edges[in_play], "one example's graph", limit=0.5,
            labels=("active sources", "firing targets"))
    for ax, real in ((axes[0], model.is_real), (axes[1], model.is_real[in_play])):
        rows, columns = np.nonzero(real)
        ax.plot(columns, rows, "^", ms=8 if ax is axes[1] else 4, color=GREEN, mec="w", mew=0.5)
    axes[1].set(aspect="auto", xticks=(), yticks=())
    for name, label, mark, color in (("weight", "in play, by weight", "o-", ORANGE),
                                     ("attribution", "in play, by attribution", "s--", "k"),
                                     ("all", "all weights, by weight", "v-.", VERMILION),
                                     ("chance", "in play, by chance", "x:", GREY)):
        axes[2].plot(densities, curves[name], mark, color=color, ms=9, label=label)
    axes[2].set(xscale="log", xlabel="density of the features", ylim=(0, 1.05),
                title="strongest edges that are real")
    log_ticks(axes[2].xaxis, densities)
    axes[2].legend(loc="lower left")
    caption(slide, f"""Among edges in play the plain weight does as well as attribution: the
        restriction does the work. At density {densities[0]:g}
        {100 * curves["none"][0]:.0f} % of examples have nothing real in play. (Triangles: real.)""")
    ends = {f"{name}, {end}": curves[name][k] for name in curves
            for k, end in ((0, "sparse"), (-1, "dense"))}
    return slide, {**ends, **curves}


@figure
def adversarial(seed, densities=(1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.003)):
    """How much can interference be used against a model? By the root of features per dimension.

    The worst direction for output i is row i of U; relative to the feature's own weight its gain is
    1 / sqrt(D_i), derived in `push_gain`. Control: random directions. Status: exact, and measured.
    Source: Toy Models of Superposition, section on adversarial examples.
    """
    rng, points = np.random.default_rng((seed, 4)), []
    for density in densities:
        model = itf.converged_model(seed, density, batch_size=256)
        W = model.model.W
        stored = np.linalg.norm(W, axis=0) > 0.5
        x, _ = model.task.batch(rng, 2048)
        noise = rng.normal(size=model.U.shape)
        gains = [itf.push_gain(model.U, model.b, x, directions) for directions in (model.U, noise)]
        points.append(np.array([1 / itf.feature_dimensionality(W), *gains])[:, stored])
    slide, ax = new_figure(height=6.8)
    fine = np.linspace(1, 1.05 * max(p[0].max() for p in points), 100)
    ax.plot(fine, np.sqrt(fine), color=GREY, label="derived: root of features per dimension")
    ax.axhline(1, color="k", lw=1.5, ls=":", label="the feature's own weight")
    for shared, worst, noise in points:
        ax.plot(shared, worst, "o", color=VERMILION, ms=8, mec="w")
        ax.plot(shared, noise, "x", color=BLUE, ms=8, mew=1.5)
    ax.plot([], [], "o", color=VERMILION, ms=8, label="measured, worst case")
    ax.plot([], [], "x", color=BLUE, ms=8, mew=1.5, label="measured, random direction")
    ax.set(xlabel="features per dimension, 1 / D, of each stored feature", ylim=(-0.8, 3),
           ylabel="gain of its output / its own weight")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    shared, worst, noise = (np.array([np.nanmean(p[k]) for p in points]) for k in range(3))
    every = np.concatenate(points, axis=1)
    off = np.nanmax(np.abs(every[1] / np.sqrt(every[0]) - 1))
    caption(slide, f"""In superposition the worst push moves an output up to {np.nanmax(every[1]):.1f}
        times as far as the feature's own weight. A random one has {noise[-1] / worst[-1]:.1f} times
        that effect.""")
    return slide, {"off the law, at most": off, "worst gain, sparsest": worst[-1],
                   "size of random gains, sparsest": np.nanstd(points[-1][2]),
                   "features per dimension": shared, "worst gain": worst, "densities": densities}


@figure
def steering(seed, densities=(0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.003), features=10):
    """What else moves when one feature is steered? All that share its dimensions; a relu hides most.

    Squared side effects add up to 1 / D - 1 before the relu, derived in `steering_side_effects`.
    Status: exact before the relu, and measured; ours after it. Source of the recipe: Persona Vectors
    (arXiv 2507.21509).
    """
    law, before, after = [], [], []
    for density in densities:
        model = itf.converged_model(seed, density, batch_size=256)
        W = model.model.W
        stored = np.flatnonzero(np.linalg.norm(W, axis=0) > 0.5)[:features]
        effects = [itf.steering_side_effects(model.model, model.x[:16384], j) for j in stored]
        law.append(np.mean(1 / itf.feature_dimensionality(W)[stored] - 1))
        before.append(np.mean([b for b, _ in effects]))
        after.append(np.mean([a for _, a in effects]))
    slide, ax = new_figure(height=6.6)
    ax.plot(densities, law, color=GREY, lw=8, alpha=0.6, label="derived: 1 / D \u2212 1")
    ax.plot(densities, before, "ko", ms=10, label="before the relu")
    ax.plot(densities, after, "s--", color=VERMILION, ms=10, label="after the relu")
    ax.set(xscale="log", xlabel="density of the features (sparser to the right)",
           ylabel="squared side effects / wanted effect", xlim=(0.7, 0.002), ylim=(0, 4.6))
    log_ticks(ax.xaxis, densities)
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.6))
    off = np.abs(np.array(before) / law - 1).max()
    caption(slide, f"""Steering one feature moves those that share its dimensions, {before[-1]:.1f}
        times as much at density {densities[-1]:g}. The relu hides nearly all of it where features
        are sparse, less in the middle.""")
    return slide, {"off the law, at most": off, "before, sparsest": before[-1],
                   "after, sparsest": after[-1], "largest after": max(after), "law": law,
                   "before": before, "after": after}


@figure
def equivariance(seed):
    """What is the pentagon, as a map? Nearly a convolution over the group of five rotations.

    By construction: U has rank 2, and is sorted by angle. The equal-importance task is symmetric
    under every permutation. Found: equal angles and lengths, so that U commutes with moving every
    feature on by one. Control: a pentagon with one degree of jitter. Status: ours. Source of the
    idea: Naturally Occurring Equivariance in Neural Networks (Distill 2020).
    """
    rng = np.random.default_rng((seed, 4))
    regular = np.radians(72) * np.arange(5)
    distance = {}
    for name, decay in (("equal importance", 1.0), ("importance 0.9^i", 0.9)):
        trained = itf.pentagon_models(seed, 0.05, decay)
        W = trained[0][1].model.W
        W = W[:, np.argsort(np.arctan2(W[1], W[0]))]
        U = W.T @ W
        distance[name] = off_circulant(U)
        if decay == 1:
            sorted_U = U
            failed = sum(loss > 1.02 * trained[0][0] for loss, _ in trained)
    jittered = [regular + np.radians(rng.normal(size=5)) for _ in range(200)]
    distance["1\u00b0 of jitter"] = np.median([off_circulant(np.cos(t[:, None] - t))
                                              for t in jittered])
    circulant = itf.nearest_circulant(sorted_U)
    power = np.fft.fft(circulant[0]).real                  # the eigenvalues of a circulant
    slide, axes = new_figure(3, height=6)
    heatmap(axes[0], sorted_U, "U, sorted by angle", limit=1.2, digits=2,
            labels=("position of source", "position of target"))
    bars = axes[1].bar(["-2", "-1", "0", "+1", "+2"], power[[3, 4, 0, 1, 2]], color=SKY)
    axes[1].bar_label(bars, fmt="%.2f")
    axes[1].set(title="its spectrum", xlabel="frequency", ylabel="eigenvalue")
    bars = axes[2].bar(["equal", "0.9$^i$", "1\u00b0 jitter"], 100 * np.array([*distance.values()]),
                       color=[BLUE, SKY, GREY])
    axes[2].bar_label(bars, fmt="%.1f")
    axes[2].set(title="distance to a circulant", ylabel="% of |U|")
    equal, unequal, jitter = distance.values()
    caption(slide, f"""U is {100 * equal:.1f} % away from a convolution over five rotations, less than
        one degree of jitter would be. {failed} of {len(trained)} starts ended elsewhere.""")
    return slide, {"distance to a circulant": equal, "unequal importance": unequal,
                   "one degree of jitter": jitter, "failed starts": failed}


def off_circulant(G):
    """Distance from G to the nearest circulant, relative to the length of G."""
    return np.linalg.norm(G - itf.nearest_circulant(G)) / np.linalg.norm(G)


# --- The command line -----------------------------------------------------------------------------


def write_whole(path, write):
    """write(another path), then rename: nobody ever sees half a file, and no two writers meet."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_figure(slide, path):
    """A picture, with the same bytes whenever it is made: no dates, fixed ids."""
    date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    slide.savefig(path, metadata=date)


def write_film(slides, path):
    """An animated GIF, its last picture held for a while."""
    writer = PillowWriter(fps=5)
    writer.setup(slides[0], path, dpi=100)
    for slide in [*slides, *slides[-1:] * 8]:
        writer.fig = slide
        writer.grab_frame()
    writer.finish()


def make(name, seed, folder, suffix):
    """Build one figure and write it; returns it, its path, and its headline number in words."""
    slide, numbers = FIGURES[name](seed)
    path = folder / f"{name}.{suffix}"
    if name == "training":
        path = path.with_suffix(".gif")
        slides = [training(seed, step)[0] for step in FILM_STEPS]
        write_whole(path, lambda part: write_film(slides, part))
    else:
        write_whole(path, lambda part: write_figure(slide, part))
    label, value = next(iter(numbers.items()))
    return slide, path, f"{label} {value:.3g}"


def show(slides):
    """Open finished figures in windows, until these are closed."""
    from matplotlib import pyplot
    for name, slide in slides.items():
        picture = io.BytesIO()
        slide.savefig(picture)
        picture.seek(0)
        ax = pyplot.figure(name, slide.get_size_inches()).add_axes((0, 0, 1, 1), frameon=False)
        ax.imshow(pyplot.imread(picture))
        ax.axis("off")
    pyplot.show()


def check_display(parser):
    """Refuse --show at once, in one line, where no window can be opened."""
    try:
        from matplotlib import pyplot
        pyplot.switch_backend(backend or pyplot.rcParams["backend"])
        shows = pyplot.get_backend().lower() not in ("agg", "cairo", "pdf", "pgf", "ps", "svg")
        problem = None if shows else "there is none"
    except (ImportError, ValueError, RuntimeError) as error:
        problem = str(error).splitlines()[0]
    if problem:
        parser.error(f"--show needs a display, and {problem}; leave it out: files need none")


def parse(arguments):
    """The command line, checked; what cannot be done ends here, with one line and exit code 2."""
    parser = argparse.ArgumentParser(
        description="Make the figures of the lesson, each from models that it trains itself.",
        epilog="An existing file is replaced by a whole new one.")
    option = parser.add_argument
    option("names", nargs="*", metavar="NAME", help="figures to make (default: all; see --list)")
    option("--list", action="store_true", help="say what each figure shows, and stop")
    option("--out", default="figures", metavar="DIR", help="default: figures")
    option("--format", choices=("png", "svg", "pdf"), default="png", help="default: png")
    option("--seed", type=int, default=0, metavar="N", help="of everything, 0 or more; default: 0")
    option("--show", action="store_true", help="also open the figures in windows, at the end")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure named {', '.join(unknown)}; there are: {', '.join(FIGURES)}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, got {options.seed}")
    if options.list:
        return options
    if options.show:
        check_display(parser)
    if not options.out:
        parser.error("--out must name a folder")
    options.out = pathlib.Path(options.out)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    except OSError as error:
        parser.error(f"cannot write to {options.out}: {error.strerror}")
    return options


def main(arguments=None):
    """Make what the command line asks for; returns the exit code."""
    options = parse(arguments)
    if options.list:
        for name, builder in FIGURES.items():
            print(f"{name:20} {(builder.__doc__ or '').partition(chr(10))[0]}".rstrip())
        return 0
    names, finished, start = options.names or list(FIGURES), {}, time.perf_counter()
    for k, name in enumerate(names, 1):
        began = time.perf_counter()
        try:
            finished[name], path, headline = make(name, options.seed, options.out, options.format)
            outcome = f"{headline} -> {path}"
        except Exception as error:
            outcome = f"FAILED: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - began
        print(f"[{k:2}/{len(names)}] {name:20} {seconds:5.1f} s  {outcome}", flush=True)
    failed = [name for name in names if name not in finished]
    print(f"{len(names) - len(failed)} figures in {time.perf_counter() - start:.1f} s")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if options.show:
        show(finished)
    return 1 if failed else 0


if __name__ == "__main__":
    as_script(main)
