"""Every figure of the lesson, one function each, in reading order.

`python plots.py` makes all of them, `--list` says what there is, `--help` the rest. A builder takes
a seed and returns (figure, numbers): a matplotlib Figure and a dict of the numbers in it, the
headline first. Its docstring gives question and answer, its decorator status and source ("the note"
is A Toy Model of Interference Weights). The models and what is measured on them are in
`interference.py`. In a notebook, `plots.pentagon(0)[0]` shows the picture.

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
from toymodel import as_script, check_whole

import argparse
import collections
import contextlib
import functools
import io
import itertools
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
HELPS, HARMS = {"color": BLUE, "marker": "D"}, {"color": VERMILION, "marker": "v"}
NEITHER = {"color": "0.7", "marker": "."}
BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "handlelength": 3}     # a legend
DIVERGING = LinearSegmentedColormap.from_list(
    "signed", [(0, VERMILION), (0.5, "white"), (0.75, BLUE), (1, "#00263E")])
RANKINGS = {  # how a ranking is drawn everywhere: label, colour, line
    "ceiling": ("exact \u0394L, another sample", "black", "-"),
    "second_order": ("second order", BLUE, (0, (6, 2))),
    "era": ("ERA", VERMILION, "-."),
    "target_weighted": ("target-weighted", SKY, (0, (8, 2, 1, 2, 1, 2))),
    "effectiveness": ("effectiveness", "#666666", (0, (3, 1))),
    "weight": ("weight", ORANGE, "-"),
    "size": ("|weight|", "black", (0, (1, 1))),
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


def figure(status, source):
    """Make a builder a figure of the lesson: in our style, its numbers plain, in FIGURES."""
    def decorate(builder):
        @functools.wraps(builder)
        def build(seed=0, *settings):
            with style():
                slide, numbers = builder(check_whole("seed", seed, 0), *settings)
            return slide, {name: np.asarray(value).tolist() for name, value in numbers.items()}

        build.__doc__ = f"{builder.__doc__ or ''}\n\nStatus: {status}. Source: {source}."
        FIGURES[builder.__name__] = build
        return build
    return decorate


def new_figure(columns=1, rows=1, height=6.2, **options):
    """A Slide, 1280 pixels wide, and its axes, one or an array of them."""
    slide = Slide(figsize=(12.8, height), layout="constrained")
    return slide, slide.subplots(rows, columns, **options)


def caption(slide, text):
    """What to see, under a figure: two sentences at most."""
    text = " ".join(text.split()).replace("%", "\u00a0%").replace(" \u00a0", "\u00a0")
    slide.supxlabel(textwrap.fill(text, 110), fontsize=15)


def heatmap(ax, matrix, title, limit=1, digits=None, labels=("source j", "target i")):
    """A matrix in colours symmetric about 0; `digits` also writes the entries of a small one."""
    image = ax.imshow(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title=title, xlabel=labels[0], ylabel=labels[1])
    if digits is not None:
        for (i, j), value in np.ndenumerate(matrix):
            ax.text(j, i, f"{np.round(value, digits) + 0:.{digits}f}", ha="center", va="center",
                    fontsize=13, color="white" if value > 0.5 * limit else "black")
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
    ax.set(xlabel="virtual weight", ylabel="number of weights", **labels)
    ax.legend(loc="upper right")


def helps_and_harms(ax, weights, dL, bins, title):
    """How many weights help and how many harm, by the size of the weight."""
    histograms(ax, [("harms (\u0394L < 0)", VERMILION, "\\\\", weights[dL < 0]),
                    ("helps (\u0394L > 0)", BLUE, "//", weights[dL > 0])], bins, title=title,
               yscale="log")
    ax.set_ylim(0.7, 30 * ax.get_ylim()[1])


def points(ax, horizontal, vertical, groups, **labels):
    """One point per weight, each group (name, mask, mark, size) with its own colour and marker."""
    for name, mask, mark, size in groups:
        ax.scatter(horizontal[mask], vertical[mask], s=size, alpha=0.7, linewidths=0,
                   label=f"{name}: {mask.sum()}", rasterized=True, **mark)
    ax.set(**labels)


def two_runs(ax, first, second, is_real, size, title, limits, **labels):
    """The same weights of two models against each other; real weights lie on top."""
    points(ax, first, second, (("interference", ~is_real, INTERFERENCE, size),
                               ("real", is_real, REAL, 3 * size)),
           title=title, aspect="equal", xlim=limits, ylim=limits, **labels)


def curve(ax, name, horizontal, vertical, label="{}", **options):
    """One line in the style that its ranking has everywhere; `label` may add to its name."""
    words, color, line = RANKINGS[name]
    ax.plot(horizontal, vertical, ls=line, color=color, label=label.format(words), **options)


def bars(ax, names, pairs, title):
    """Two bars for each name, dark and hatched: pairs is a dict of two lists."""
    looks = {"color": "0.4"}, {"color": "w", "hatch": "//"}
    for shift, (label, values), look in zip((-0.2, 0.2), pairs.items(), looks):
        places = np.arange(len(names)) + shift
        drawn = ax.bar(places, values, 0.4, label=label, edgecolor="k", **look)
        ax.bar_label(drawn, fmt="%.2f", fontsize=13)
    ax.set_xticks(range(len(names)), names, fontsize=13)
    ax.set(title=title, ylim=(0, 1.3 * max(map(max, pairs.values()))))
    ax.legend(loc="upper right", ncols=2)


def log_ticks(axis, values):
    """Name these values, and only these, on a logarithmic axis."""
    axis.set_ticks(values, [f"{value:g}" for value in values])
    axis.set_ticks([], minor=True)


# --- The figures, in the order of the lesson ------------------------------------------------------

FILM_STEPS = (0, *np.unique(np.geomspace(1, 600, 24).astype(int)).tolist())


@figure("reproduced", "Toy Models of Superposition; the note")
def training(seed, step=FILM_STEPS[-1]):
    """How do a pentagon and two kinds of weight come about? By parting: watch the film."""
    small, large = (run[step]["W"] for run in itf.film(seed, FILM_STEPS))
    U = large.T @ large
    real = np.eye(len(U), dtype=bool)
    slide, (left, right) = new_figure(2, height=5.6)
    slide.set_layout_engine(None)                  # the same places in all pictures
    slide.subplots_adjust(left=0.05, right=0.97, bottom=0.13, top=0.83)
    slide.suptitle(f"training step {step}", weight="bold", family="monospace")
    arrows(left, small, "5 features in 2 dimensions")
    histograms(right, [("interference", ORANGE, "", U[~real]), ("real", GREEN, "//", U[real])],
               np.linspace(-1, 1.5, 51), title="100 features in 20 dimensions", yscale="log",
               ylim=(0.7, 20000))
    return slide, {"final diagonal": U[real].mean()}


@figure("a definition, drawn without data", "the note, introduction")
def circuit(seed, source=1, target=3):
    """What is a virtual weight? All paths from a source to a target, taken as one arrow."""
    heights, middles = np.linspace(1, 0, 5), (0.75, 0.25)
    slide, axes = new_figure(2, height=6.4, subplot_kw={"xlim": (-0.2, 2.2), "ylim": (-0.3, 1.1)})
    small, lifted = axes
    small.set_title("the small model: all paths through the middle")
    lifted.set_title("lifted: one arrow for each pair")
    formula = r"$U_{ij} = \sum_k (W_{up})_{ik} (W_{down})_{kj}$"
    lifted.text(1, -0.22, formula, ha="center", fontsize=20)
    for ax, height, (end, name) in itertools.product(axes, heights, ((0, "x"), (2, "z"))):
        ax.text(end, height, f"${name}_{4 * (1 - height):.0f}$", ha="center", va="center", zorder=3,
                fontsize=20, bbox={"boxstyle": "circle", "fc": "w", "ec": "k", "lw": 2})
        ax.axis("off")
    for here, there in itertools.product(heights, heights):
        lifted.plot([0, 2], [here, there], color="0.85", lw=1.5)
    for here, middle in itertools.product(heights, middles):
        small.plot([0, 1, 2], [here, middle, here], color="0.85", lw=1.5)
    for middle in middles:
        small.plot([0, 1, 2], [heights[source], middle, heights[target]], "--", color=ORANGE)
        small.plot(1, middle, "s", color="k", ms=20)
    for end, color, line, name in ((source, GREEN, "-", "real"),
                                   (target, ORANGE, "--", "interference")):
        lifted.annotate("", (1.88, heights[end]), (0.12, heights[source]), arrowprops={
            "arrowstyle": "-|>,head_width=0.6,head_length=1", "lw": 4, "color": color, "ls": line})
        above = 0.35 * heights[source] + 0.65 * heights[end] + 0.06
        lifted.text(1.3, above, f"{name}: $U_{{{end}{source}}}$", color=color, ha="center",
                    bbox={"color": "white", "pad": 1})
    caption(slide, """Paths from one source to one target add up to one virtual weight. The task
        asks for few of them; the others exist because features share the middle.""")
    return slide, {"virtual weights": len(heights)**2}


@figure("reproduced", "Toy Models of Superposition (Elhage et al. 2022), introduction")
def pentagon(seed, densities=(1, 0.2, 0.05)):
    """How do 5 features share 2 dimensions? The sparser they are, the more of them move in."""
    slide, axes = new_figure(3, 2, height=7.2)
    gaps, failed, starts = {}, 0, 0
    for density, plane, grid in zip(densities, *axes):
        trained = itf.pentagon_models(seed, density, decay=0.9)
        failed += itf.failed_starts(trained)
        starts += len(trained)
        W = trained[0][1].model.W
        gaps[f"gaps at density {density:g}"] = last = itf.gaps_between(W)
        arrows(plane, W, f"density {density:g}")
        image = heatmap(grid, W.T @ W, "", 1.4, digits=1)
    slide.colorbar(image, ax=axes[1], shrink=0.9, label="virtual weight U")
    caption(slide, f"""Off the diagonal of U stands interference. Pentagon: {last.min():.0f} to
        {last.max():.0f} degrees apart; {failed} of {starts} starts ended worse.""")
    return slide, {"widest gap (degrees)": last.max(), "narrowest gap (degrees)": last.min(),
                   "failed starts": failed, "starts": starts, **gaps}


@figure("reproduced", "the note")
def decomposition(seed):
    """Can U be split into real and interference weights? Yes, and here two definitions agree."""
    model = itf.simple_model(seed)
    U, A, start = model.U, model.task.A, (model.U, model.b, model.task)
    U_star, b_star = itf.ideal_weights(*start, seed=seed, progress=itf.counter)
    U_fixed, _ = itf.ideal_weights(*start, seed=seed, train_bias=False, progress=itf.counter)
    slide, axes = new_figure(4, 2, height=7.2, subplot_kw={"xticks": (), "yticks": ()})
    heatmap(axes[0, 0], A, "A: the task", labels=("", ""))
    for row, title, (real, interference) in zip(
            axes, ("= ideal U* (Definition 1)", f"= real: \u0394L > {itf.THRESHOLD:g} (2)"),
            (itf.decompose_by_ideal(U, U_star), itf.decompose_by_loss(U, model.dL))):
        for ax, matrix, name in zip(row[1:], (U, real, interference),
                                    ("U: the model", title, "+ interference")):
            image = heatmap(ax, matrix, name, labels=("", ""))
    axes[1, 0].axis("off")
    slide.colorbar(image, ax=axes[1, 0], location="left", fraction=0.3, label="weight from j to i")
    spread = U[A == 0].std()
    caption(slide, f"""Both definitions of a real weight find the diagonal. What is left has
        standard deviation {spread:.2f}.""")
    return slide, {"interference std": spread, "diagonal mean": np.diag(U).mean(),
                   "U* off identity": np.abs(U_star - A).max(),
                   "U* diagonal, bias fixed": np.diag(U_fixed).mean(),
                   "ideal loss ratio": model.loss_with(U_star, b_star) / model.loss,
                   "real": model.is_real.sum(), "real on diagonal": np.diag(model.is_real).sum()}


@figure("reproduced", "the note; Towards Monosemanticity (2023), e.g. its Hebrew feature")
def weight_histogram(seed):
    """What would one see with nothing but the weights? A bulk and, apart from it, a bump."""
    model = itf.simple_model(seed)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    bins = np.linspace(model.U.min(), model.U.max(), 61)
    peak = bins[np.argmax(np.histogram(rest, bins)[0]):][:2].mean()     # middle of the fullest bin
    harms = np.mean(model.dL[~model.is_real] < 0)
    slide, (whole, row) = new_figure(2, sharex=True)
    helps_and_harms(whole, model.U, model.dL, bins, f"all {model.U.size} weights")
    helps_and_harms(row, model.U[0], model.dL[0], bins, "the weights into feature 0")
    caption(slide, f"""Interference peaks at {peak:+.2f} with a long tail below; real weights are
        the bump at {real.mean():.2f}. {harms:.0%} of interference weights harm.""")
    return slide, {"real mean": real.mean(), "interference peak": peak, "share that harms": harms,
                   "smallest interference": rest.min(), "gap": real.min() - rest.max()}


@figure("reproduced", "the note")
def two_models(seed):
    """Does interference repeat when a model is trained again? No; real weights do."""
    slide, axes = new_figure(2, sharex=True, sharey=True, height=7)
    numbers = {}
    for ax, name, steps, schedule in ((axes[0], "undertrained", 300, "constant"),
                                      (axes[1], "converged", 3000, "cosine")):
        first, second = (itf.simple_model(s, steps, schedule=schedule) for s in (seed, seed + 1))
        real = first.task.A > 0
        two_runs(ax, first.U, second.U, real, 16, f"{name}: {steps} steps", (-1, 1.6),
                 xlabel="U, one seed", ylabel="U, another seed")
        numbers |= {f"r, {name}": itf.correlation(first.U[~real], second.U[~real]),
                    f"real, {name}": [first.U[real].min(), first.U[real].max()]}
    axes[0].legend(loc="lower right", markerscale=2)
    edge = np.quantile(first.U[~real], 0.999)
    axes[1].axvline(edge, color="k", lw=1.5, linestyle="--")
    axes[1].text(edge + 0.04, 0.4, f"99.9 % of\ninterference\nis below {edge:.2f}")
    caption(slide, f"""Interference of two seeds: r = {numbers["r, undertrained"]:.2f}, converged
        {numbers["r, converged"]:.2f}. Real weights are positive in both.""")
    return slide, {**numbers, "edge, converged": edge}


@figure("reproduced", "the note; Towards Monosemanticity (2023), its base64 feature")
def block_histogram(seed):
    """What if real and interference weights overlap? Then no threshold on the weight finds them."""
    model = itf.block_model(seed)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    overlap = np.mean(real < np.quantile(rest, 0.99))
    harms = np.mean(model.dL < 0)
    slide, (whole, positive) = new_figure(2)
    helps_and_harms(whole, model.U, model.dL, 50, f"all {model.U.size} weights")
    groups = [("interference", ORANGE, "", rest[rest > 0]), ("real", GREEN, "//", real)]
    histograms(positive, groups, np.linspace(0, model.U.max(), 31),
               title="the positive ones, cut off", ylim=(0, len(real)))
    caption(slide, f"""{harms:.0%} of all weights harm. {overlap:.0%} of the real
        ones hide: they are smaller than the top 1 % of interference.""")
    return slide, {"overlap": overlap, "share that harms": harms,
                   "silent targets": np.sum(~model.live), "loss over constant": model.over_constant}


@figure("reproduced", "the note")
def learned_vs_ideal(seed):
    """What became of each ideal weight? It was shrunk or not learned; others were made up."""
    model = itf.block_model(seed)
    A, U, matters = model.task.A, model.U, np.abs(model.dL) > itf.THRESHOLD
    wanted = A > 0
    lost = wanted & (U < 0.2 * A)
    shrunk = wanted & ~lost & (U < A)
    spread = np.where(wanted, A, np.random.default_rng(seed).uniform(-0.06, 0.02, A.shape))
    slide, ax = new_figure(height=7)
    points(ax, spread, U, (("within \u00b1 0.0001", ~matters, NEITHER, 25),
                           ("harms", matters & ~model.is_real, HARMS, 45),
                           ("real", model.is_real, REAL, 70)),
           xlabel="ideal weight A (zeros are spread out)", ylabel="learned weight U",
           xlim=(-0.1, 1.55), title=f"block model: {wanted.sum()} weights to learn")
    ax.plot([0, 1, np.nan, 0, 1], [0, 1, np.nan, 0, 0.2], "k:", lw=1.5)
    for right, up, text in ((1.02, 0.95, "learned exactly"), (1.02, 0.5, f"shrunk: {shrunk.sum()}"),
                            (1.02, -0.3, f"not learned (below a fifth): {lost.sum()}"),
                            (0.04, 0.93 * U.min(), f"interference (A = 0): {np.sum(~wanted)}")):
        ax.text(right, up, text, weight="bold", va="center")
    ax.legend(loc="upper left", bbox_to_anchor=(0.1, 1), title="by \u0394L", markerscale=1.5)
    shares = {"too small": np.mean(U[wanted] < A[wanted]), "not learned": np.mean(lost[wanted]),
              "negative": np.mean(U[wanted] < 0), "largest interference": U[~wanted].max()}
    caption(slide, f"""{shares["too small"]:.0%} of ideal weights were learned too small,
        {shares["not learned"]:.0%} hardly or with the wrong sign.""")
    return slide, shares


@figure("that real weights agree better is reproduced; r is ours", "the note")
def block_two_models(seed):
    """Which weights do two runs share? It depends on which are looked at: selection makes r."""
    first, second = itf.block_model(seed), itf.block_model(seed, run=1)
    in_A = first.task.A > 0
    sets = {"real in run 1": first.is_real, "all of A": in_A,
            "real in both runs": first.is_real & second.is_real,
            "interference": ~first.is_real & ~in_A}
    r = {name: itf.correlation(first.U[mask], second.U[mask]) for name, mask in sets.items()}
    slide, axes = new_figure(3, sharex=True, sharey=True, height=6)
    for ax, name in zip(axes, sets):
        two_runs(ax, first.U, second.U, sets[name], 6, f"{name}: r = {r[name]:.2f}", (-1, 1.5),
                 xlabel="U, run 1")
    axes[0].set_ylabel("U, run 2")
    found = first.is_real & in_A
    again, of = np.sum(found & second.is_real), np.sum(found)
    caption(slide, f"""The same two runs of one circuit three times. {again} of {of} real weights in
        A are real again in run 2; interference: r = {r["interference"]:.2f}.""")
    return slide, {**{f"r, {name}": value for name, value in r.items()},
                   "real again": again / of, "counted again": again, "of": of}


@figure("order reproduced; published TWERA and the levels not", "the note; Circuit Tracing")
def precision_recall(seed):
    """Can cheap heuristics find the real weights? In part; most of it is knowing silent targets."""
    model = itf.block_model(seed)
    slide, axes = new_figure(2, sharey=True, height=7)
    area = {}
    for ax, title, suffix, targets in ((axes[0], "all targets", "", slice(None)),
                                       (axes[1], "live targets only", ", live", model.live)):
        for name in sorted(model.scores, key=list(RANKINGS).index):
            precision, recall = itf.precision_recall(model.scores[name][targets],
                                                     model.is_real[targets])
            area[name + suffix] = both = itf.average_precision(precision, recall)
            curve(ax, name, recall, precision, f"{area[name]:.2f}   {both:.2f}   {{}}")
        ax.set(xlabel="recall: real weights found", title=title, ylim=(0, 1.04))
    axes[0].set_ylabel("precision: what is found is real")
    axes[1].legend(**BESIDE, title="average precision: all, live")
    silent = np.sum(~model.live)
    top = itf.ranking(model.scores["twera"])[:100] // len(model.U)         # targets of the top 100
    caption(slide, f"""Weight, ERA and TWERA differ because {silent} of {len(model.U)} targets are
        silent. Among live targets they are about equally good.""")
    return slide, {"era": area["era"], **area, "base rate": model.is_real.mean(),
                   "silent targets": silent, "targets": len(model.U),
                   "silent in TWERA's top 100": np.sum(~model.live[top])}


@figure("ours", "the note stops its model at a stage that it does not name")
def stages(seed, steps=(250, 500, 1000, 2000, 4000, 8000)):
    """Is that a law or a moment? The ranks of the heuristics are a moment, live targets less so."""
    names, table = ("second_order", "era", "weight", "twera"), collections.defaultdict(list)
    for model, other in zip(*(itf.block_stages(seed, run, steps) for run in (0, 1))):
        rest = model.task.A == 0
        table["loss / best constant's"].append(model.over_constant)
        table["share of silent targets"].append(np.mean(~model.live))
        table["interference r, two runs"].append(itf.correlation(model.U[rest], other.U[rest]))
        for name in names:
            score = itf.SCORES[name](model.U, model.b, *model.other)
            table[name].append(model.average_precision(score))
            table[f"{name}, live"].append(model.average_precision(score, model.live))
    slide, axes = new_figure(3, sharex=True, sharey=True, height=6.6)
    for key, mark in zip(list(table)[:3], ("ko-", "ks--", "kD:")):
        axes[0].plot(steps, table[key], mark, label=key)
    for name in names:
        curve(axes[1], name, steps, table[name], marker="o")
        curve(axes[2], name, steps, table[f"{name}, live"], marker="o")
    for ax, title in zip(axes, ("the model", "average precision", "on live targets only")):
        ax.axvline(2000, color="0.8", lw=8, zorder=0)
        ax.set(title=title, xscale="log", xlabel="training steps", ylim=(-0.05, 2),
               yticks=np.linspace(0, 1, 6))
        log_ticks(ax.xaxis, steps[::2])
        ax.legend(loc="upper left")
    lead = np.abs(np.subtract(table["era, live"], table["weight, live"]))[3:].max()
    caption(slide, f"""All other block figures are the grey moment, 2000 steps. From there on, ERA
        and weight differ by at most {lead:.2f} on live targets.""")
    last = {f"{name}, last": values[-1] for name, values in table.items()}
    return slide, {"ERA against weight, live": lead, **last, **table}


@figure("reproduced; second order is ours", "the note")
def loss_gain(seed):
    """How much of the loss do a few precise weights explain? More than all of them together."""
    model = itf.block_model(seed)
    oracle = model.dL[model.is_real].sum()
    same = model.dL.sum() / oracle
    slide, ax = new_figure(height=6.8)
    best, kept = {}, np.arange(1, model.U.size + 1)
    for name in ("second_order", "era", "target_weighted", "weight"):
        precision, _ = itf.precision_recall(model.scores[name], model.is_real)
        gain = itf.loss_gain(model.scores[name], model.dL) / oracle
        last, best[f"{name} best"] = np.flatnonzero(precision >= 0.8)[-1:], gain.max()
        curve(ax, name, kept, gain, f"{{}}, best {gain.max():.2f}")
        ax.plot(kept[last], gain[last], "o", color=RANKINGS[name][1], mec="k", ms=13)
    ax.plot(model.is_real.sum(), 1, "*", color=GREEN, mec="k", ms=24, zorder=4,
            label="oracle: the real weights")
    ax.plot([], [], "o", color="w", mec="k", ms=13, label="last point of 80 % precision")
    ax.axhline(same, color="k", lw=1.5, ls="--", label=f"same loss as the original: {same:.2f}")
    ax.axhspan(same, 1.08, color="0.93", zorder=0)
    ax.text(1.2, 1.02, "better than the original")
    ax.set(xscale="log", xlabel="number of weights kept, best first", ylim=(0, 1.08),
           ylabel="loss gain / the oracle's")
    ax.legend(**BESIDE)
    caption(slide, f"""All weights together gain {same:.2f} of what the real ones alone do:
        interference costs the rest.""")
    return slide, {"all over oracle": same, **best}


@figure("ours", "Optimal Brain Damage (LeCun, Denker, Solla 1990)")
def second_order(seed):
    """Do two matrix products give the effect of every weight? Nearly: they miss only gate flips."""
    model = itf.block_model(seed)
    estimate, exact = itf.second_order_effects(model.U, model.b, model.x, model.y), model.dL
    flips = itf.gate_flip_rate(model.U, model.b, model.x)
    often, r = flips > np.quantile(flips, 0.99), itf.correlation(estimate, exact)
    of_error, of_effect = (size[often].sum() / size.sum()
                           for size in (np.abs(estimate - exact), np.abs(exact)))
    ends = 1.3 * min(estimate.min(), exact.min()), 1.3 * max(estimate.max(), exact.max())
    slide, ax = new_figure(height=7)
    points(ax, estimate, exact, (
        ("other weights", ~often, {"color": SKY, "marker": "o"}, 35),
        ("the 1 % that flip gates most", often, {"color": "k", "marker": "P"}, 45)))
    ax.plot(ends, ends, color=GREY, lw=1.5, zorder=0, label="estimate = exact")
    ax.set_xscale("symlog", linthresh=itf.THRESHOLD)
    ax.set_yscale("symlog", linthresh=itf.THRESHOLD)
    ax.set(xlabel="second-order estimate", ylabel="exact \u0394L", xlim=ends, ylim=ends,
           title=f"the effect of {exact.size} weights: r = {r:.3f}")
    ax.legend(loc="upper left", markerscale=1.5)
    caption(slide, f"""The marked 1 % carry {of_error:.0%} of the error, but also
        {of_effect:.0%} of all |\u0394L|: they are simply the large ones.""")
    return slide, {"r": r, "error share of flippers": of_error,
                   "effect share of flippers": of_effect}


@figure("ours", "the note's remark that gains do not simply add up")
def pruned_loss(seed, sizes=(10, 30, 100, 300, 1000, 3000, 8000, 16384)):
    """Does a good ranking make a good small model? Only with a bias that is fitted to it."""
    model, (mask, mask_bias) = itf.block_model(seed), itf.block_mask(seed)
    x, y = (part[:4096] for part in model.other)
    scores = {**model.scores, "size": np.abs(model.U)}
    names = ("ceiling", "second_order", "era", "target_weighted", "weight", "size", "frequency")
    whole = itf.pruned_loss(model.U, model.b, x, y, model.U, [model.U.size])[0]
    losses, star = {}, {}
    slide, axes = new_figure(2, sharex=True, sharey=True, height=7.2)
    for ax, refit, title in zip(axes, (False, True), ("bias as trained", "bias refitted")):
        for name in names:
            loss = itf.pruned_loss(model.U, model.b, x, y, scores[name], sizes, refit) / whole
            losses[name, refit] = loss
            curve(ax, name, sizes, loss)
        loss, = itf.pruned_loss(model.U, mask_bias, x, y, mask, [mask.sum()], refit) / whole
        star[refit] = loss
        ax.plot(mask.sum(), loss, "*", color=PURPLE, mec="k", ms=22, zorder=4, label="learned mask")
        ax.axhline(1, color="k", lw=1, ls=":", label=f"whole model: {whole:.2f}")
        ax.set(xscale="log", yscale="log", title=title, xlabel="number of weights kept")
        log_ticks(ax.yaxis, (0.5, 0.7, 1, 2, 3, 5, 10))
    axes[0].set_ylabel("true loss / the whole model's")
    axes[1].legend(**BESIDE)
    by_weight, by_size = (losses[name, False].max() for name in ("weight", "size"))
    caption(slide, f"""Ranked by signed weight, up to {by_weight:.1f} times the loss, by size
        {by_size:.1f}. Refitted, the mask's {mask.sum()} weights: {star[True]:.2f} times.""")
    return slide, {"mask refitted": star[True], "mask": star[False], "mask keeps": mask.sum(),
                   "mask in A": np.mean(model.task.A[mask] > 0), "worst, weight": by_weight,
                   "worst, size": by_size,
                   "best refitted": min(losses[name, True].min() for name in names)}


@figure("ours", "the note's second takeaway; Horvitz and Thompson (1952)")
def sampled_truth(seed, k=100, draws=(41, 82, 164, 328, 656), repeats=200):
    """Can a few exact effects tell which heuristic is better? Yes, if drawn by rank."""
    model, rng = itf.block_model(seed), np.random.default_rng((seed, 5))
    scores = [model.scores["era"], model.scores["weight"]]
    rankings = [itf.ranks(score) for score in scores]
    truth = [np.mean(model.is_real[rank <= k]) for rank in rankings]
    slide, (left, right) = new_figure(2)
    right_order, covered = {}, {}
    for size, design in itertools.product(draws, ("by rank", "uniformly")):
        probability = (itf.inclusion_probabilities(scores, size) if design == "by rank"
                       else np.full(model.U.shape, size / model.U.size))
        trials = np.array([itf.sampled_precisions(model.is_real, rankings, probability, k, rng)
                           for _ in range(repeats)])               # (repeats, which, 2)
        right_order[design, size] = np.mean(trials[:, 0, 0] > trials[:, 1, 0])
        for which, name in enumerate(("era", "weight") if design == "by rank" else ()):
            estimate, half = trials[:, which, 0], 1.96 * trials[:, which, 1]
            covered[name, size] = np.mean(np.abs(estimate - truth[which]) <= half)
            left.errorbar((0.96 + 0.08 * which) * size, estimate[0], half[0], fmt="o", ms=9,
                          capsize=5, color=RANKINGS[name][1])
    for name, precision in zip(("era", "weight"), truth):
        curve(left, name, [35, 770], [precision] * 2, "{}: truth; one sample, 95 %")
    for design, mark in (("by rank", "ko-"), ("uniformly", "ks:")):
        right.plot(draws, [right_order[design, size] for size in draws], mark,
                   label=f"drawn {design}")
    for ax, title in ((left, f"precision among the top {k}"),
                      (right, f"share of {repeats} samples that rank them rightly")):
        ax.set(xscale="log", xlabel=f"weights drawn, of {model.U.size}", ylim=(0, 1.2), title=title)
        log_ticks(ax.xaxis, draws)
        ax.legend(loc="upper right")
    size = draws[2]
    by_rank, uniformly = right_order["by rank", size], right_order["uniformly", size]
    caption(slide, f"""The exact effect of {size} weights, drawn by rank, tells ERA from weight in
        {by_rank:.0%} of samples; drawn uniformly, in {uniformly:.0%}.""")
    return slide, {"right order, by rank": by_rank, "right order, uniformly": uniformly,
                   "covered, ERA": covered["era", size], "drawn": size,
                   "covered, weight": covered["weight", size]}


@figure("ours", "the note's question 'Can we beat this?'")
def compressed_sensing(seed):
    """Can circuits be read from weights without any data? Linear ones can; a trained relu's cannot.

    Real: A > 0 where the read-out is the linear one that fits A best, dL > 1e-4 in the trained
    model. Control: that linear read-out plus the trained model's negative weights.
    """
    trained = itf.block_model(seed)
    A, directions = trained.task.A, trained.model.W_down
    cases = {}
    for m in (16, 32):
        W_down = np.random.default_rng((seed, m)).normal(size=(m, len(A)))
        W_down /= np.linalg.norm(W_down, axis=0)
        cases[f"linear, {m}\ndimensions"] = W_down, itf.linear_read_out(W_down, A)
    W_up = itf.linear_read_out(directions, A)
    negative = np.minimum(trained.U, 0) @ np.linalg.pinv(directions)
    cases["linear, trained\ndirections"] = directions, W_up
    cases["the same, with\nits negatives"] = directions, W_up + negative
    cases["trained\nrelu model"] = directions, trained.model.W_up
    areas = [itf.recovery(*case, trained.is_real if "relu" in name else A > 0)
             for name, case in cases.items()]
    found = dict(zip(("weight", "sparse code"), zip(*areas)))
    slide, ax = new_figure(height=6.6)
    bars(ax, list(cases), found, "average precision, from the weights alone")
    caption(slide, """A linear circuit comes back from its weights alone. A trained relu model does
        not: a shut gate makes negative weights free, and they hide the few directions.""")
    return slide, {f"{way}, {' '.join(name.split())}": area for way, areas in found.items()
                   for name, area in zip(cases, areas)}


@figure("exact from 90 degrees on, and measured", "the note, Appendix 1")
def weight_sharing(seed):
    """Do the weights of circuits in superposition add? Only if they are orthogonal."""
    degrees = np.array([90, 112.5, 135, 157.5, 180, 60])
    ratios, guess_errors = np.transpose([itf.sharing(t) for t in degrees])
    deviation = np.abs(ratios * (1 + np.cos(np.radians(degrees))**2) - 1)[:5].max()
    fine = np.linspace(90, 180, 200)
    slide, ax = new_figure()
    ax.plot(fine, 1 / (1 + np.cos(np.radians(fine))**2), color=GREY,
            label="1 / (1 + cos\u00b2 angle), derived")
    ax.plot(degrees[:5], ratios[:5], "o", color="k", ms=12, label="trained")
    ax.plot(60, ratios[5], "D", color="w", mec="k", ms=11, label="trained, below 90 degrees")
    ax.plot(degrees[:5], guess_errors[:5], "s--", color=PURPLE, ms=10,
            label="error of the guess \u201cthe larger of both, entry by entry\u201d")
    ax.set(ylim=(-0.05, 1.8), ylabel="joint matrix / sum of the separate ones",
           xlabel="angle between the two circuits (degrees)", xticks=(60, *degrees[:5]))
    ax.legend(loc="upper right")
    caption(slide, f"""Orthogonal circuits add, antipodal ones share one weight: ratio
        {ratios[0]:.2f} to {ratios[4]:.2f}, within {deviation:.2%} of the derivation.""")
    return slide, {"largest relative deviation": deviation, "ratio at 60 degrees": ratios[5],
                   "guess off by": guess_errors[1:4], "ratios": ratios[:5]}


@figure("pairs and edge are reproduced, pentagons vary", "the note, Appendix 2")
def converged_geometry(seed):
    """What is interference made of after convergence? Of geometry, or of a sharp edge."""
    dense, sparse = (itf.converged_model(seed, density) for density in (0.25, 0.001))
    W = dense.model.W[:, itf.stored_features(dense.model.W)]
    W = W / np.linalg.norm(W, axis=0)
    cosines = (W.T @ W)[np.triu_indices(W.shape[1], 1)]
    weights = sparse.U[sparse.task.A == 0]
    top = weights.max()
    slide, (left, right) = new_figure(2, height=6.4)
    left.hist(cosines, np.linspace(-1.025, 1.025, 83), color=ORANGE, log=True)
    near = {}
    for degrees, height in ((180, 800), (144, 4000), (90, 4000), (72, 800)):
        cosine = np.cos(np.radians(degrees))
        near[degrees] = np.sum(np.abs(cosines - cosine) < 0.02)
        left.plot([cosine, cosine], [0.6, height], color="k", lw=1, ls=":")
        left.text(cosine, 1.15 * height, f"{degrees}\u00b0: {near[degrees]}", ha="center")
    left.set(title=f"density 0.25: {W.shape[1]} features stored", ylim=(0.6, 20000),
             xlim=(-1.35, 1.1), xlabel="cosine of two features", ylabel="pairs of features")
    counts, edges, _ = right.hist(weights, 60, color=ORANGE)
    densest = edges[np.argmax(counts):][:2].mean()          # the middle of the fullest bin
    right.axvline(top, color="k", lw=2, ls="--")
    right.set(title=f"density 0.001: the largest is {top:.2f}", xlabel="interference weight",
              ylabel="number of weights")
    caption(slide, f"""Dense features: {near[180]} antipodal pairs; how many at a pentagon's angles,
        72 and 144 degrees, varies with the seed. Sparse ones: weights crowd under a sharp edge.""")
    return slide, {"antipodal pairs": near[180], "pairs at 72 degrees": near[72], "largest": top,
                   "densest bin over largest": densest / top}


@figure("reproduced; the bars are ours", "the note, Appendix 3")
def correlated_features(seed, set_size=100, examples=8192):
    """Is all interference noise? No: where features are correlated, its means are useful."""
    model = itf.correlated_model(seed)
    U, x, y = model.U, model.x[:examples], model.y[:examples]
    diagonal = np.eye(len(U), dtype=bool)
    set_of = np.arange(len(U)) // set_size
    same_set = set_of[:, None] == set_of
    within, between = U[same_set & ~diagonal], U[~same_set]
    means = itf.set_mean_component(U, set_size) * ~diagonal
    mixed = np.ix_(*[np.random.default_rng((seed, 6)).permutation(len(U))] * 2)
    random_means = np.empty_like(U)
    random_means[mixed] = itf.set_mean_component(U[mixed], set_size)
    kept = {"all": U, "no set\nmeans": U - means, "no random\nmeans": U - random_means * ~diagonal,
            "diagonal\n+ means": U * diagonal + means, "diagonal\nonly": U * diagonal}
    trained, refitted = (
        np.concatenate([itf.pruned_loss(weights, model.b, x, y, weights, [U.size], refit)
                        for weights in kept.values()]) for refit in (False, True))
    whole = trained[0]
    losses = {"trained bias": trained / whole, "refitted bias": refitted / whole}
    slide, axes = new_figure(3, width_ratios=(3, 3, 8), height=6)
    slide.colorbar(heatmap(axes[0], U, "virtual weights U"), ax=axes[0], location="bottom")
    groups = [("between", ORANGE, "\\\\", between), ("within", SKY, "//", within)]
    histograms(axes[1], groups, np.linspace(-1, 0.6, 50), title="interference", ylim=(0, 3500))
    bars(axes[2], list(kept), losses, "loss over the whole model's")
    caption(slide, f"""Mean interference: {within.mean():+.2f} within sets, {between.mean():+.2f}
        between. Without means the loss is {trained[1] / whole:.2f} times as large.""")
    numbers = {f"{' '.join(name.split())}, {bias}": loss for bias, row in losses.items()
               for name, loss in zip(list(kept)[1:], row[1:])}
    return slide, numbers | {"within": within.mean(), "between": between.mean()}


@figure("that they disagree is reproduced; the numbers are ours", "the note, Appendix 4")
def definitions(seed):
    """Do the definitions agree on the hard model? In part: they ask different questions."""
    model, (mask, _) = itf.block_model(seed), itf.block_mask(seed)
    U, b, A = model.U, model.b, model.task.A
    U_star, b_star = itf.ideal_weights(U, b, model.task, seed=seed, progress=itf.counter)
    called = {"A": A > 0, "Def. 1": U_star > 0.05, "Def. 2": model.is_real, "mask": mask}
    overlap = np.array([[np.sum(p & q) for q in called.values()] for p in called.values()])
    x, y = model.x[:8192], model.y[:8192]
    whole, = itf.pruned_loss(U, b, x, y, U, [U.size])
    names = {name: f"{name}:\n{kept.sum()} weights" for name, kept in called.items() if name != "A"}
    losses = {label: [itf.pruned_loss(U, b, x, y, called[name], [called[name].sum()], refit)[0]
                      for name in names]
              for label, refit in (("trained bias", False), ("refitted bias", True))}
    slide, (left, right) = new_figure(2, height=6.4)
    heatmap(left, overlap, "weights that both call real", 1.7 * overlap.max(), 0, ("", ""))
    left.set(xticks=range(4), xticklabels=called, yticks=range(4), yticklabels=called)
    bars(right, list(names.values()), losses, "loss with only those weights of U")
    right.axhline(whole, color="k", lw=1.5, ls=":")
    right.text(-0.55, 1.02 * whole, f"whole model: {whole:.2f}")
    missed = (A > 0) & ~model.is_real
    barely = np.sum(missed & (U < 0.2 * A))
    caption(slide, f"""Definition 1 finds the circuit, learned or not: {missed.sum()} weights of A
        are not real by loss, {barely} of them hardly learned.""")
    change = model.loss_with(np.where(model.is_real, U, 0), b) - model.loss
    return slide, {**{f"{name} finds of A": row[0] / overlap[0, 0]
                      for name, row in zip(names, overlap[1:])},
                   "Def. 1 finds besides": overlap[1, 1] - overlap[0, 1],
                   "ideal loss ratio": model.loss_with(U_star, b_star) / model.loss,
                   "true over predicted change": change / model.dL[~model.is_real].sum(),
                   "not real": missed.sum(), "hardly learned": barely}


@figure("ours", "both axes: Turner, Wu, Batson (2026)")
def effectiveness(seed):
    """Do the weights that move the output most help? The very strongest do; below, most harm."""
    model = itf.block_model(seed)
    effect = itf.effectiveness(model.U, model.b, model.x)
    half = 1.96 * itf.ablation_standard_errors(model.U, model.b, model.x, model.y)
    helps, harms = model.dL > half, model.dL < -half
    order = itf.ranking(effect)
    quarter, top = order[:effect.size // 400], order[:effect.size // 100]
    slide, ax = new_figure(height=7)
    points(ax, effect, model.dL, (("not told apart from 0", ~helps & ~harms, NEITHER, 22),
                                  ("harms", harms, HARMS, 22), ("helps", helps, HELPS, 22)),
           xscale="log", xlim=(1e-6 * effect.max(), 3 * effect.max()),
           xlabel="effectiveness: mean squared change of the output",
           ylabel="helpfulness: \u0394L \u00b1 1.96 errors")
    ax.set_yscale("symlog", linthresh=itf.THRESHOLD)
    shown = top[::8]
    ax.errorbar(effect.flat[shown], model.dL.flat[shown], half.flat[shown], fmt="none", ecolor="k",
                elinewidth=1, capsize=3, label="95 % interval, some of the top 1 %")
    for last, height, text in ((quarter[-1], 0.97, "top 0.25 %"), (top[-1], 0.9, "top 1 %")):
        ax.axvline(effect.flat[last], color="k", lw=1, ls=":")
        ax.text(effect.flat[last], height, f" {text} \u2192", transform=ax.get_xaxis_transform())
    ax.legend(loc="upper left", markerscale=2)
    helpful, harmful, overall = helps.flat[quarter].mean(), harms.flat[top].mean(), harms.mean()
    caption(slide, f"""Of the most effective quarter percent {helpful:.0%} help. Of the top percent
        {harmful:.0%} harm; of all weights {overall:.0%}.""")
    return slide, {"helpful in the top 0.25 %": helpful, "harmful in the top 1 %": harmful,
                   "harmful overall": overall}


@figure("ours", "the graphs: Circuit Tracing (2025)")
def attribution_graph(seed, densities=(0.01, 0.03, 0.1, 0.2, 0.3)):
    """Do graphs of single examples side-step interference? Yes, by what they leave out."""
    curves = collections.defaultdict(list)
    for density in densities:
        model = itf.block_model(seed, density=density)
        x, _ = model.task.batch(np.random.default_rng((seed, 3)), 1000)
        precision, _ = itf.precision_recall(model.U, model.is_real)
        curves["all"].append(precision[model.is_real.sum() - 1])
        for name, value in itf.graph_precision(model.U, model.b, model.is_real, x).items():
            curves[name].append(value)
    edges = itf.attribution_graph(model.U, model.b, model.x[0])
    in_play = np.ix_(edges.any(axis=1), edges.any(axis=0))
    slide, axes = new_figure(3, width_ratios=(4, 3, 6))
    heatmap(axes[0], model.U, f"weights at density {density:g}", limit=0.5)
    heatmap(axes[1], edges[in_play], "one example's graph", limit=0.5)
    for ax, real, size in ((axes[0], model.is_real, 6), (axes[1], model.is_real[in_play], 8)):
        ax.plot(*np.nonzero(real)[::-1], "^", ms=size, color=GREEN, mec="w", mew=0.5)
    axes[1].set(aspect="auto", xticks=(), xlabel="active", yticks=(), ylabel="firing")
    for name, label, mark, color in (("weight", "in play, by weight", "o-", ORANGE),
                                     ("attribution", "in play, by attribution", "s--", "k"),
                                     ("all", "all weights, by weight", "D-.", PURPLE),
                                     ("chance", "in play, by chance", "x:", GREY)):
        axes[2].plot(densities, curves[name], mark, color=color, ms=9, label=label)
    axes[2].set(xscale="log", xlabel="density of the features", ylim=(0, 1.5),
                yticks=np.linspace(0, 1, 6), title="strongest edges that are real")
    log_ticks(axes[2].xaxis, densities)
    axes[2].legend(loc="upper right", ncols=2, fontsize=12)
    none = curves["none"][0]
    caption(slide, f"""In play, the plain weight does at least as well as attribution. Where
        features are sparsest, {none:.0%} of examples have no real edge.""")
    ends = {f"{name}, {end}": curves[name][k] for name in ("weight", "attribution", "all", "chance")
            for k, end in ((-1, "dense"), (0, "sparse"))}
    return slide, {**ends, "nothing real, sparse": none, **curves}


@figure("exact, and measured", "Toy Models of Superposition, adversarial examples")
def adversarial(seed, densities=(1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.003)):
    """How much can interference be used against a model? By the root of features per dimension."""
    models = [itf.converged_model(seed, density, batch_size=256) for density in densities]
    groups = [itf.worst_and_random_gains(model) for model in models]
    shared, worst, random = np.concatenate(groups, axis=1)
    fine = np.linspace(1, 1.05 * shared.max(), 100)
    slide, ax = new_figure(height=6.8)
    ax.plot(fine, np.sqrt(fine), color=GREY, label="derived: root of features per dimension")
    ax.axhline(1, color="k", lw=1.5, ls=":", label="the feature's own weight")
    ax.plot(shared, worst, "o", color=VERMILION, ms=8, mec="w", label="measured, worst case")
    ax.plot(shared, random, "x", color=BLUE, ms=8, mew=1.5, label="measured, random direction")
    ax.set(xlabel="features per dimension, 1 / D, of each stored feature", ylim=(-0.8, 3),
           ylabel="gain of its output / its own weight")
    ax.legend(**BESIDE)
    usual = np.nanstd(groups[-1][2])
    caption(slide, f"""The worst push moves an output up to {np.nanmax(worst):.1f} times as far as
        the feature's own weight does, a random one about {usual:.1f} times.""")
    return slide, {"off the law, at most": np.nanmax(np.abs(worst / np.sqrt(shared) - 1)),
                   "worst gain": np.nanmax(worst), "random gain, usual size": usual}


@figure("exact before the relu, and measured; ours after it", "Persona Vectors (2025)")
def steering(seed, densities=(0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.003)):
    """What else moves with a steered feature? All that share its dimensions; a relu hides most."""
    models = [itf.converged_model(seed, density, batch_size=256) for density in densities]
    law, before, after = np.transpose([itf.mean_side_effects(model) for model in models])
    slide, ax = new_figure(height=6.6)
    ax.plot(densities, law, color=GREY, lw=8, alpha=0.6, label="derived: 1 / D \u2212 1")
    ax.plot(densities, before, "ko", ms=10, label="before the relu")
    ax.plot(densities, after, "s--", color=VERMILION, ms=10, label="after the relu")
    ax.set(xscale="log", xlabel="density of the features (sparser to the right)",
           ylabel="squared side effects / wanted effect", xlim=(0.7, 0.002), ylim=(0, 4.6))
    log_ticks(ax.xaxis, densities)
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.6))
    caption(slide, f"""Steering moves the features that share dimensions, up to {before.max():.1f}
        times as much. The relu hides nearly all of it where features are sparse.""")
    return slide, {"off the law, at most": np.abs(before / law - 1).max(),
                   "largest before": before.max(), "after, sparsest": after[-1],
                   "largest after": after.max(), "after": after}


@figure("ours", "Naturally Occurring Equivariance in Neural Networks (2020)")
def equivariance(seed):
    """What is the pentagon, as a map? Nearly a convolution over the group of five rotations."""
    trained, unequal = (itf.pentagon_models(seed, 0.05, decay) for decay in (1.0, 0.9))
    U, other = (itf.sorted_by_angle(models[0][1].model.W) for models in (trained, unequal))
    angles = np.radians(72 * np.arange(5) + np.random.default_rng((seed, 4)).normal(size=(200, 5)))
    jittered = [itf.off_circulant(np.cos(t[:, None] - t)) for t in angles]
    power = np.fft.fft(itf.nearest_circulant(U)[0]).real         # the eigenvalues of a circulant
    distances = itf.off_circulant(U), itf.off_circulant(other), np.median(jittered)
    slide, axes = new_figure(3, height=6)
    heatmap(axes[0], U, "U, sorted by angle", limit=1.2, digits=2,
            labels=("position of source", "position of target"))
    for ax, names, heights, form in ((axes[1], ("-2", "-1", "0", "+1", "+2"),
                                      power[[3, 4, 0, 1, 2]], "%.2f"),
                                     (axes[2], ("equal\nimportance", "0.9$^i$", "1\u00b0 jitter"),
                                      100 * np.array(distances), "%.1f")):
        ax.bar_label(ax.bar(names, heights, color=SKY, edgecolor="k"), fmt=form)
    axes[1].set(title="its spectrum", xlabel="frequency", ylabel="eigenvalue")
    axes[2].set(title="distance to a circulant, % of |U|")
    failed = itf.failed_starts(trained)
    caption(slide, f"""U is {distances[0]:.1%} away from a convolution over five rotations, less
        than one degree of jitter would be. {failed} of {len(trained)} starts ended elsewhere.""")
    return slide, {"distance to a circulant": distances[0], "one degree of jitter": distances[2],
                   "failed starts": failed, "starts": len(trained)}


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
    writer = PillowWriter(fps=4)
    writer.setup(slides[0], path, dpi=100)
    for slide in [*slides, *slides[-1:] * 4]:
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
        picture = pyplot.imread(io.BytesIO(slide._repr_png_()))
        pyplot.figure(name, slide.get_size_inches()).figimage(picture)
    pyplot.show()


def check_display(parser):
    """Refuse --show at once, in one line, where no window can be opened."""
    try:
        from matplotlib import pyplot
        pyplot.switch_backend(backend or pyplot.rcParams["backend"])
        if pyplot.get_backend().lower() in ("agg", "cairo", "pdf", "pgf", "ps", "svg"):
            raise RuntimeError("there is none")
    except (ImportError, ValueError, RuntimeError) as error:
        problem = str(error).splitlines()[0]
        parser.error(f"--show needs a display, and {problem}; leave it out: files need none")


def parse(arguments):
    """The command line, checked; what cannot be done ends here, with one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Make the figures of the lesson.")
    option = parser.add_argument
    option("names", nargs="*", metavar="NAME", help="figures to make (default: all; see --list)")
    option("--list", action="store_true", help="say what each figure shows, and stop")
    option("--out", default="figures", metavar="DIR", help="default: figures")
    option("--format", choices=("png", "svg", "pdf"), default="png", help="default: png (film: gif)")
    option("--seed", type=int, default=0, metavar="N", help="of everything, 0 or more; default: 0")
    option("--show", action="store_true", help="also open the figures in windows, at the end")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in FIGURES:
            parser.error(f"no figure named {name}; there are: {', '.join(FIGURES)}")
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
        took = f"{time.perf_counter() - began:5.1f} s"
        print(f"[{k:2}/{len(names)}] {name:20} {took}  {outcome}", flush=True)
    failed = [name for name in names if name not in finished]
    print(f"{len(names) - len(failed)} figures in {time.perf_counter() - start:.1f} s")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if options.show:
        show(finished)
    return 1 if failed else 0


if __name__ == "__main__":
    as_script(main)
