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
import contextlib
import functools
import io
import pathlib
import tempfile
import textwrap
import time

backend = os.environ.pop("MPLBACKEND", None)       # may not be installed, and none is needed here
import matplotlib.style
if backend:
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

STYLE = {"font.size": 15, "axes.titlesize": 16, "axes.spines.top": False,
         "axes.spines.right": False, "savefig.dpi": 100, "figure.dpi": 100, "lines.linewidth": 3,
         "legend.fontsize": 14, "hatch.linewidth": 1.5, "svg.hashsalt": "interference weights"}
BLUE, SKY, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#CC79A7"
GREEN, ORANGE, GREY = "#009E73", "#E69F00", "#999999"
REAL, INTERFERENCE = {"color": GREEN, "marker": "^"}, {"color": ORANGE, "marker": "."}
HELPS, HARMS = {"color": BLUE, "marker": "D"}, {"color": VERMILION, "marker": "v"}
NEITHER = {"color": "0.7", "marker": "."}
EFFECTS = (-0.01, -0.001, -0.0001, 0, 0.0001, 0.001, 0.01, 0.1)     # ticks on axes of dL
SYMLOG = matplotlib.scale.SymmetricalLogScale(None, linthresh=itf.THRESHOLD)
DIVERGING = matplotlib.colors.LinearSegmentedColormap.from_list(
    "signed", [(0, VERMILION), (0.5, "white"), (0.75, BLUE), (1, "#00263E")])
RANKINGS = {  # what each ranking is called in a figure
    "ceiling": "exact \u0394L, another sample", "second_order": "second order, with answers",
    "live_geometry": "geometry, silent targets last", "geometry": "geometry", "cosine": "cosine",
    "era": "ERA", "covariance": "covariance, no weight in it", "target_weighted": "target-weighted",
    "twera": "TWERA, published", "effectiveness": "effectiveness", "weight": "weight",
    "size": "|weight|", "frequency": "frequency",
}
LINES = {  # and how it is drawn where it has a curve
    "second_order": {"color": "black", "ls": (0, (6, 2))},
    "live_geometry": {"color": BLUE},
    "era": {"color": VERMILION, "ls": "-."},
    "weight": {"color": ORANGE},
    "size": {"color": "black", "ls": (0, (1, 1))},
    "random": {"color": GREY, "ls": (0, (1, 2))},
}
PATIENTS = {  # how a model is drawn where several are compared: label, marker, colour
    "learned": ("learned model", {"marker": "o", "color": "k"}),
    "third": ("third model, 4 sources", {"marker": "s", "color": PURPLE}),
    "silent": ("silent model", {"marker": "X", "color": "0.55"}),
}
FIGURES = {}                                       # name -> builder, in reading order

# --- Drawing --------------------------------------------------------------------------------------

styled = matplotlib.style.context(STYLE, after_reset=True)     # whatever the user's settings are


class Slide(Figure):
    """A Figure that fits a 1280 x 720 projector and looks the same wherever it is shown."""

    draw = styled(Figure.draw)
    savefig = styled(Figure.savefig)

    def _repr_png_(self):                          # how a notebook shows it
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def figure(status, source):
    """Make a builder a figure of the lesson: in our style, its numbers plain, in FIGURES."""
    def decorate(builder):
        @functools.wraps(builder)
        @styled
        def build(seed=0, *values, **settings):
            slide, numbers = builder(check_whole("seed", seed, 0), *values, **settings)
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
        ax.annotate("", (right, up), (0, 0), arrowprops={"arrowstyle": "->", "lw": 3, "color": "k"})
        if np.hypot(right, up) > 0.2:
            ax.text(1.17 * right, 1.17 * up, str(i), ha="center", va="center", weight="bold")
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
    harms = "harms (\u0394L < 0)", VERMILION, "\\\\", weights[dL < 0]
    helps = "helps (\u0394L > 0)", BLUE, "//", weights[dL > 0]
    histograms(ax, [harms, helps], bins, title=title, yscale="log")
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


def bars(ax, names, pairs, title):
    """Two bars for each name, dark and hatched: pairs is a dict of two lists."""
    looks = {"color": "0.4"}, {"color": "w", "hatch": "//"}
    for shift, (label, values), look in zip((-0.2, 0.2), pairs.items(), looks):
        places = np.arange(len(names)) + shift
        drawn = ax.bar(places, values, 0.4, label=label, edgecolor="k", **look)
        ax.bar_label(drawn, fmt="%.2f", fontsize=12)
    ax.set_xticks(range(len(names)), names, fontsize=13)
    ax.set(title=title, ylim=(0, 1.3 * max(map(max, pairs.values()))))
    ax.legend(loc="upper right", ncols=2)


def dots(ax, table, looks, spread=0.0, **labels):
    """A row of dots for each {name: value} in a table; looks has label and marker of each name."""
    rows = np.arange(len(table))
    ax.hlines(rows, *labels["xlim"], color="0.9", lw=1.5, zorder=0)
    for k, (name, (label, mark)) in enumerate(looks.items()):
        values = [row.get(name, np.nan) for row in table.values()]
        heights = rows + spread * (k - (len(looks) - 1) / 2)
        ax.plot(values, heights, label=label, **{"ls": "", "ms": 12, "mec": "w"} | mark)
    ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=rows, yticklabels=table, **labels)
    ax.tick_params(left=False)


def log_ticks(values, *axes):
    """Name these values, and only these, on logarithmic axes."""
    for axis in axes:
        axis.set_ticks(values, [f"{value:g}" for value in values])
        axis.set_ticks([], minor=True)


# --- The figures, in the order of the lesson ------------------------------------------------------

FILM_STEPS = (0, *np.unique(np.geomspace(1, 600, 16).astype(int)).tolist())


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
    frame = {"frame_on": False, "xticks": (), "yticks": (), "xlim": (-0.2, 2.2),
             "ylim": (-0.3, 1.1)}
    slide, (small, lifted) = new_figure(2, height=6.4, subplot_kw=frame)
    small.set_title("the small model: all paths through the middle")
    lifted.set_title("lifted: one arrow for each pair")
    formula = r"$U_{ij} = \sum_k (W_{up})_{ik} (W_{down})_{kj}$"
    lifted.text(1, -0.22, formula, ha="center", fontsize=20)
    for i, height in enumerate(heights):
        lifted.plot([0, 2], [[height] * 5, heights], color="0.85", lw=1.5)
        small.plot([0, 1, 2], [[height] * 2, middles, [height] * 2], color="0.85", lw=1.5)
        for ax, end, name in ((small, 0, "x"), (small, 2, "z"), (lifted, 0, "x"), (lifted, 2, "z")):
            ax.text(end, height, f"${name}_{i}$", ha="center", va="center", fontsize=20, zorder=3,
                    bbox={"boxstyle": "circle", "fc": "w", "ec": "k", "lw": 2})
    first, last = heights[[source, target]]
    small.plot([0, 1, 2], [[first] * 2, middles, [last] * 2], "--", color=ORANGE)
    small.plot([1, 1], middles, "s", color="k", ms=20)
    for end, color, line, name in ((source, GREEN, "-", "real"),
                                   (target, ORANGE, "--", "interference")):
        lifted.annotate("", (1.88, heights[end]), (0.12, first), arrowprops={
            "arrowstyle": "-|>,head_width=0.6,head_length=1", "lw": 4, "color": color, "ls": line})
        above = 0.35 * first + 0.65 * heights[end] + 0.06
        lifted.text(1.3, above, f"{name}: $U_{{{end}{source}}}$", color=color, ha="center",
                    bbox={"color": "white", "pad": 1})
    caption(slide, """Paths from one source to one target add up to one virtual weight. The task
        asks for few of them; the others exist because features share the middle.""")
    return slide, {"virtual weights": len(heights)**2}


@figure("reproduced", "Toy Models of Superposition (Elhage et al. 2022), introduction")
def pentagon(seed, densities=(1, 0.2, 0.05), decay=0.9):
    """How do 5 features share 2 dimensions? The sparser they are, the more of them move in."""
    slide, axes = new_figure(3, 2, height=7.2)
    gaps, failed, starts = {}, 0, 0
    for density, plane, grid in zip(densities, *axes):
        trained = itf.pentagon_models(seed, density, decay)
        failed += itf.failed_starts(trained)
        starts += len(trained)
        W = trained[0][1].model.W
        gaps[f"gaps at density {density:g}"] = last = itf.gaps_between(W)
        arrows(plane, W, f"density {density:g}: {len(last)} stored")
        image = heatmap(grid, W.T @ W, "", 1.4, digits=1)
    slide.colorbar(image, ax=axes[1], shrink=0.9, label="virtual weight U")
    caption(slide, f"""Off the diagonal of U stands interference. Pentagon: {last.min():.0f} to
        {last.max():.0f} degrees apart; {failed} of {starts} starts ended worse.""")
    return slide, {"widest gap (degrees)": last.max(), "narrowest gap (degrees)": last.min(),
                   "failed starts": failed, "starts": starts, **gaps}


@figure("exact, and measured", "Toy Models of Superposition; Persona Vectors (2025)")
def cost_of_sharing(seed, densities=(0.25, 0.1, 0.05, 0.02, 0.003), decay=0.97):
    """What does it cost to share a dimension? Worst push and steering: 1 / D, both of them."""
    slide, axes = new_figure(2, height=6.8)
    models = [itf.converged_model(seed, density, batch_size=256) for density in densities]
    equal = [itf.sharing_costs(model, itf.stored_features(model.model.W)[::9]) for model in models]
    early = itf.simple_model(seed, 300, 0.05, decay=decay)
    length = np.linalg.norm(early.model.W, axis=0)
    some = np.flatnonzero(length > 0.1)[::4]
    uneven = itf.sharing_costs(early, some)
    groups = {key: np.concatenate([costs[key] for costs in equal]) for key in equal[0]}
    looks = {"gain": ("worst push: (gain / own weight)\u00b2", "^", VERMILION, 9),
             "before": ("steering, before the relu", "o", "k", 5),
             "after": ("steering, after the relu", "s", SKY, 7)}
    for ax, costs, top, ticks, title in (
            (axes[0], groups, 6, (1, 2, 3, 4, 5), "equally important"),
            (axes[1], uneven, 300, (1, 3, 10, 30, 100, 300), "unequal, stopped early")):
        ax.plot([1, top], [1, top], color="0.7", lw=8, alpha=0.6, label="derived: 1 / D")
        for key, (label, marker, color, size) in looks.items():
            ax.plot(costs["shared"], costs[key], marker, color=color, ms=size, label=label)
        ax.set(xscale="log", yscale="log", xlabel="features per dimension, 1 / D", title=title,
               xlim=(0.95, 1.2 * top), ylim=(0.95, top))
        log_ticks(ticks, ax.xaxis, ax.yaxis)
    for density, costs in zip(densities, equal):
        place = 1.03 * costs["shared"].max(), costs["after"].mean()
        axes[0].text(*place, f"{density:g}", va="center", fontsize=12)
    axes[0].set_ylabel("squared effect / the wanted one's")
    axes[0].legend(loc="upper left", title="blue: density beside it")
    gain_off, off = (np.abs(uneven[key] / uneven["shared"] - 1) for key in ("gain", "before"))
    after = [costs["after"].mean() - 1 for costs in equal]
    caption(slide, f"""A worst push and a steered feature pay the same, 1 / D, up to
        {np.nanmax(groups["gain"]):.1f}; the relu hides much. Steering leaves the law where features
        are hardly stored (right).""")
    return slide, {"gain off the law": np.nanmax(np.abs(groups["gain"] / groups["shared"] - 1)),
                   "steering off the law": np.abs(groups["before"] / groups["shared"] - 1).max(),
                   "largest gain": np.nanmax(groups["gain"]), "after, sparsest": after[-1],
                   "random push": np.nanmean(groups["random"]), "largest after": max(after),
                   "side effects after the relu": after,
                   "uneven: gain off": np.nanmax(gain_off),
                   "uneven: steering off, stored": off[length[some] > 0.5].max(),
                   "uneven: steering off, hardly stored": off[length[some] < 0.2].max()}


@figure("reproduced", "the note")
def decomposition(seed):
    """Can U be split into real and interference weights? Yes, and here two definitions agree."""
    model = itf.simple_model(seed)
    U, A, start = model.U, model.task.A, (model.U, model.b, model.task)
    U_star, b_star = itf.ideal_weights(*start, seed=seed, progress=itf.counter)
    U_fixed, _ = itf.ideal_weights(*start, seed=seed, train_bias=False, progress=itf.counter)
    parts = A, U, *itf.decompose_by_ideal(U, U_star), *itf.decompose_by_loss(U, model.dL)
    titles = ("A: the task", "U: the model  =", "ideal U* (Definition 1)  +", "interference",
              "real (Definition 2)  +", "interference")
    slide = Slide(figsize=(12.8, 7.2), layout="constrained")
    axes = slide.subplot_mosaic("AUrs;AUtu", subplot_kw={"xticks": (), "yticks": ()})
    for ax, matrix, title in zip(axes.values(), parts, titles):
        image = heatmap(ax, matrix, title, labels=("", ""))
    slide.colorbar(image, ax=list(axes.values()), shrink=0.7, label="weight from j to i")
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


@figure("reproduced; what the start does is ours", "the note")
def two_models(seed):
    """Does interference repeat when a model is trained again? In part, and from its start only."""
    early = itf.simple_model(seed), itf.simple_model(seed, start=seed + 1)
    first, other_start, other_data = (
        itf.converged_model(data, 0.02, batch_size=256, start=start)
        for data, start in ((seed, None), (seed + 1, None), (seed + 1, seed)))
    pairs = {"another start, early": early, "another start": (first, other_start),
             "other data, same start": (first, other_data)}
    real = first.task.A > 0
    slide, axes = new_figure(3, sharex=True, sharey=True, height=6)
    numbers = {}
    for ax, (name, (one, again)) in zip(axes, pairs.items()):
        numbers[f"r, {name}"] = r = itf.correlation(one.U[~real], again.U[~real])
        numbers[f"real, {name}"] = [again.U[real].min(), again.U[real].max()]
        two_runs(ax, one.U, again.U, real, 16, f"{name}: r = {r:.2f}", (-1, 1.6),
                 xlabel=f"U after {300 if 'early' in name else 3000} steps")
    axes[0].set_ylabel("U, trained again")
    axes[0].legend(loc="lower right", markerscale=2, fontsize=12)
    edge = np.quantile(first.U[~real], 0.999)
    axes[1].axvline(edge, color="k", lw=1.5, linestyle="--")
    axes[1].text(edge + 0.05, 0.5, f"99.9 % of\ninterference\nbelow {edge:.2f}", fontsize=12)
    caption(slide, """Real weights come back from every start. Interference comes back, in part,
        from the same start on other data, and not from another start.""")
    return slide, {**numbers, "edge": edge}


@figure("reproduced", "the note; Towards Monosemanticity (2023), its base64 feature")
def block_histogram(seed):
    """What if real and interference weights overlap? Then no threshold on the weight finds them."""
    model, numbers = itf.block_model(seed), {}
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    for name, m in itf.three_models(seed).items():
        outside, top = m.task.A == 0, np.quantile(m.U[~m.is_real], 0.99)
        numbers |= {f"overlap, {name}": np.mean(m.U[m.is_real] < top),
                    f"silent targets, {name}": np.sum(~m.live),
                    f"loss over constant, {name}": m.over_constant,
                    f"real, {name}": m.is_real.sum(),
                    f"real in A, {name}": m.is_real[~outside].sum()}
        for size in (1e-5, 1e-4, 1e-3):
            large = outside & (np.abs(m.dL) > size)
            numbers[f"harms, outside A, above {size:g}, {name}"] = np.mean(m.dL[large] < 0)
    slide, (large, positive) = new_figure(2)
    harms, helps, in_A = model.dL < -itf.THRESHOLD, model.is_real, model.task.A > 0
    histograms(large, [("harms, not in A", VERMILION, "\\\\", model.U[harms & ~in_A]),
                       ("helps, in A", BLUE, "//", model.U[helps & in_A]),
                       ("helps, not in A", "black", "", model.U[helps & ~in_A])],
               np.linspace(-0.8, 1, 46), title="weights with |\u0394L| > 0.0001", yscale="log",
               ylim=(0.7, 1500))
    groups = [("interference", ORANGE, "", rest[rest > 0]), ("real", GREEN, "//", real)]
    histograms(positive, groups, np.linspace(0, model.U.max(), 31),
               title="positive weights, cut off", ylim=(0, len(real) / 3))
    overlap = numbers["overlap, learned"]
    caption(slide, f"""{overlap:.0%} of the real weights are smaller than the top 1 % of
        interference. Outside the circuit A, large effects are harm.""")
    return slide, {"overlap": overlap, **numbers}


@figure("reproduced for one model; the rest is ours", "the note")
def learned_vs_ideal(seed):
    """Did training find the circuit, and again? One model nearly did, the other in part."""
    slide, axes = new_figure(2, 2, height=7.2, sharex="col", sharey=True)
    makers = {"learned": itf.block_model, "silent": itf.silent_model}
    numbers = {}
    for (left, right), (name, make) in zip(axes, makers.items()):
        model, again = make(seed), make(seed, 1)
        A, U, wanted = model.task.A, model.U, model.task.A > 0
        rest = ~wanted & ~model.is_real
        spread = np.where(wanted, A, np.random.default_rng(seed).uniform(-0.1, -0.02, A.shape))
        harms = model.dL < -itf.THRESHOLD
        points(left, spread, U, (("no matter", ~harms & ~model.is_real, NEITHER, 12),
                                 ("harms", harms, HARMS, 16), ("real", model.is_real, REAL, 36)),
               ylabel=f"{name} model: U", ylim=(-1, 1.5))
        left.plot([0, 1], [0, 1], "k:", lw=1.5)
        points(right, again.U, U, (("not in A", rest, INTERFERENCE, 10),
                                   ("in A", wanted, {"color": SKY, "marker": "P"}, 45)),
               xlim=(-1, 1.5))
        ratio = np.median(U[wanted] / A[wanted])
        r, r_rest = (itf.correlation(U[mask], again.U[mask]) for mask in (wanted, rest))
        left.text(0.62, -0.75, f"median U/A: {ratio:.2f}", weight="bold")
        right.text(-0.95, 1.2, f"r in A: {r:.2f},  r elsewhere: {r_rest:.2f}", weight="bold")
        numbers |= {f"median U/A, {name}": ratio,
                    f"too small, {name}": np.mean(U[wanted] < A[wanted]),
                    f"negative, {name}": np.mean(U[wanted] < 0),
                    f"r in A, {name}": r, f"r, interference, {name}": r_rest,
                    f"real again, {name}": np.mean(again.is_real[model.is_real & wanted]),
                    f"again by chance, {name}": np.mean(again.is_real[wanted])}
    axes[0, 0].set_title("run 1 against the ideal")
    axes[0, 1].set_title("run 1 against run 2")
    axes[1, 0].set_xlabel("ideal weight A (zeros are spread out)")
    axes[1, 1].set_xlabel("U, run 2")
    axes[0, 0].legend(loc="upper left", markerscale=2, fontsize=12)
    axes[0, 1].legend(loc="lower right", markerscale=2, fontsize=12)
    caption(slide, """Weights come out smaller than the ideal ones. The learned model finds the same
        circuit again; the silent one, only a part of it.""")
    return slide, numbers


@figure("ours", "Optimal Brain Damage (LeCun, Denker, Solla 1990)")
def second_order(seed):
    """Do two matrix products give the effect of every weight? Nearly: they miss only gate flips."""
    model, silent = itf.block_model(seed), itf.silent_model(seed)
    estimate, exact = itf.second_order_effects(model.U, model.b, model.x, model.y), model.dL
    flips = itf.gate_flip_rate(model.U, model.b, model.x)
    often, r = flips > np.quantile(flips, 0.99), itf.correlation(estimate, exact)
    of_error, of_effect = (size[often].sum() / size.sum()
                           for size in (np.abs(estimate - exact), np.abs(exact)))
    slide, ax = new_figure(height=7)
    ends = 1.5 * min(estimate.min(), exact.min()), 1.5 * max(estimate.max(), exact.max())
    ax.plot(ends, ends, color=GREY, lw=1.5, zorder=0)
    points(ax, estimate, exact, (
        ("other weights", ~often, NEITHER, 60),
        ("the 1 % that flip gates most often", often, {"color": BLUE, "marker": "P"}, 60)))
    ax.set(xlabel="second-order estimate", ylabel="exact \u0394L", xlim=ends, ylim=ends,
           xscale=SYMLOG, yscale=SYMLOG, title=f"the effect of {exact.size} weights: r = {r:.3f}")
    log_ticks(EFFECTS, ax.xaxis, ax.yaxis)
    ax.legend(loc="upper left", markerscale=1.5)
    caption(slide, f"""The marked 1 % carry {of_error:.0%} of the error, but also
        {of_effect:.0%} of all |\u0394L|: most of them are simply large.""")
    other = itf.second_order_effects(silent.U, silent.b, silent.x, silent.y)
    return slide, {"r": r, "error share of flippers": of_error,
                   "effect share of flippers": of_effect,
                   "r, silent model": itf.correlation(other, silent.dL)}


@figure("ours", "both axes: Turner, Wu, Batson (2026)")
def effectiveness(seed):
    """Do the weights that move the output most help? That depends on the model."""
    slide, axes = new_figure(2, sharex=True, sharey=True, height=7)
    share = {}
    panels = {"learned": axes[0], "silent": axes[1]}
    for name, model in itf.three_models(seed).items():
        effect = model.scores["effectiveness"]
        half = 1.96 * itf.ablation_standard_errors(model.U, model.b, model.x, model.y)
        helps, harms = model.dL > half, model.dL < -half
        top = itf.ranking(effect)[:effect.size // 100]
        share[name] = harms.flat[top].mean()
        if ax := panels.get(name):
            points(ax, effect, model.dL, (("not told apart from 0", ~helps & ~harms, NEITHER, 22),
                                          ("harms", harms, HARMS, 22), ("helps", helps, HELPS, 22)),
                   xscale="log", xlim=(1e-7, 0.2), xlabel="effectiveness: squared change",
                   title=f"{name} model")
            ax.errorbar(effect.flat[top[::8]], model.dL.flat[top[::8]], half.flat[top[::8]],
                        fmt="none", ecolor="k", elinewidth=1, capsize=3)
            ax.axvspan(effect.flat[top[-1]], 0.2, color="0.93", zorder=0)
            ax.text(0.15, 0, f"top 1 %:\n{share[name]:.0%} harm", ha="right", va="center",
                    weight="bold")
    axes[0].set(yscale=SYMLOG, ylabel="helpfulness: \u0394L \u00b1 1.96 errors")
    log_ticks(EFFECTS, axes[0].yaxis)
    axes[0].legend(loc="upper left", markerscale=2)
    caption(slide, f"""Of the most effective percent {share["learned"]:.0%} harm in one model,
        {share["silent"]:.0%} in another, {share["third"]:.0%} in a third (not shown). Moving the
        output is not helping.""")
    return slide, {f"harm in the top 1 %, {name}": value for name, value in share.items()}


@figure("ours", "the note gives no initialisation")
def start(seed, starts=(0.02, 0.05, 0.3, 1)):
    """Why do targets fall silent? Their rows of W_up are the start, never unlearned."""
    silent, by_task, r_silent, r_live = np.transpose(
        [itf.memory_of_start(seed, size) for size in starts])
    horizontal = {"xscale": "log", "xlabel": "size of the start of W_up"}
    slide, (left, right) = new_figure(2, sharex=True, subplot_kw=horizontal)
    left.plot(starts, silent, "o-", color=VERMILION, ms=10)
    left.plot(starts, by_task, "k:", lw=2)
    left.text(starts[0], silent[-1], "silent targets, of 128", color=VERMILION, weight="bold")
    left.text(starts[-1], by_task[-1] - 8, "of these, silent in the task", ha="right")
    right.plot(starts, r_silent, "o-", color=VERMILION, ms=10)
    right.plot(starts, r_live, "s--", color="k", ms=9)
    right.text(0.2, r_silent[2] + 0.05, "silent targets", color=VERMILION, ha="right",
               weight="bold")
    right.text(0.5, r_live[2] + 0.02, "live targets")
    left.set(title="what falls silent", ylim=(-6.4, 128))
    right.set(title="cosine of rows of W_up with their start", ylim=(-0.0525, 1.05))
    log_ticks(starts, left.xaxis, right.xaxis)
    caption(slide, f"""From an ordinary start (1), {silent[-1]:.0f} of 128 targets end silent; from
        a twentieth of it, {silent[1]:.0f}. Silent rows are then mostly what they started as.""")
    return slide, {f"silent, start {starts[-1]:g}": silent[-1],
                   f"silent, start {starts[1]:g}": silent[1],
                   "by the task": by_task[1], "silent": silent,
                   "cosine, silent rows": r_silent[-1], "cosine, live rows": r_live[-1]}


@figure("order reproduced, on the silent model; the rest is ours", "the note; Circuit Tracing")
def precision_recall(seed):
    """What finds the real weights? Activations know silence, geometry more, answers nearly all."""
    models = itf.three_models(seed)
    learned, _, silent = models.values()
    found = {f"{name}, {patient}": model.average_precision(name)
             for patient, model in models.items() for name in RANKINGS}
    slide, (left, right) = new_figure(2, height=7.2, width_ratios=(5, 7))
    for name, word, place in (("second_order", "second\norder", (0.68, 0.92)),
                              ("live_geometry", "geometry", (0.78, 0.6)),
                              ("era", "ERA", (0.77, 0.4)), ("weight", "weight", (0.42, 0.5))):
        precision, recall = itf.precision_recall(learned.scores[name], learned.is_real)
        left.plot(recall, precision, **LINES[name])
        left.text(*place, word, color=LINES[name]["color"], weight="bold", ha="center", va="center")
    left.set(xlabel="recall: real weights found", ylabel="precision: what is found is real",
             title="learned model", ylim=(0, 1.03), xlim=(0, 1.03))
    table = {words: {patient: found[f"{name}, {patient}"] for patient in models}
             for name, words in RANKINGS.items()}
    dots(right, table, PATIENTS, spread=0.2, xlim=(0, 1.03), title="average precision")
    right.legend(loc="upper left", fontsize=12)
    caption(slide, """With silent targets put last, geometry is ahead of ERA on all three models.
        Right answers tell nearly all where the model learned.""")
    apart = max(abs(found[f"era, {name}"] - found[f"covariance, {name}"]) for name in models)
    return slide, {"live geometry": found["live_geometry, learned"], **found,
                   **{f"{name}, live targets": silent.average_precision(name, silent.live)
                      for name in ("weight", "era", "twera", "geometry")},
                   **{f"base rate, {name}": model.is_real.mean() for name, model in models.items()},
                   "ERA against covariance": apart}


@figure("ours", "the note's question 'Can we beat this?'")
def compressed_sensing(seed):
    """Can weights alone give the circuit away? Yes, by sparse codes; best where targets are alive.

    Real: A > 0 where U = A P is the best linear read-out of A, else dL > 1e-4. The control permutes
    the directions of sources.
    """
    models = itf.three_models(seed)
    learned, third, silent = models.values()
    A = learned.task.A
    found = {}
    random = np.random.default_rng((seed, 16)).normal(size=(16, len(A)))
    for name, W_down in (("random", random), ("learned", learned.model.W_down)):
        scores = itf.geometry_and_controls(itf.linear_read_out(W_down, A), seed)
        found[f"linear, {name}\ndirections"] = {
            way: itf.average_precision(*itf.precision_recall(score, A > 0))
            for way, score in scores.items()}
    for name, model, *targets in (("learned\nmodel", learned), ("third model,\n4 sources", third),
                                  ("silent\nmodel", silent),
                                  ("silent model,\nlive targets", silent, silent.live)):
        scores = itf.geometry_and_controls(model.U, seed) | {"ERA": model.scores["era"]}
        found[name] = {way: model.average_precision(score, *targets)
                       for way, score in scores.items()}
    looks = {"weight": ("weight", {"marker": "o", "color": ORANGE}),
             "ERA": ("ERA", {"marker": "D", "color": VERMILION}),
             "code": ("code", {"marker": "s", "color": SKY}),
             "raw code": ("code, atoms of any length", {"marker": "P", "color": "0.6"}),
             "geometry": ("geometry: weight, cosine,\nand code", {"marker": "*", "color": BLUE,
                                                                  "ms": 20}),
             "shuffled": ("geometry, shuffled\ndirections", {"marker": "x", "mec": "0.4"})}
    slide, ax = new_figure(height=7)
    dots(ax, found, looks, xlim=(0, 1.03), xlabel="average precision")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)
    caption(slide, """Weight, cosine and code together beat ERA wherever targets are alive, without
        one example. With shuffled directions they fall below the plain weight there.""")
    lengths = {f"code length over chance, {name}": itf.relative_code_length(model.U)
               for name, model in models.items()}
    return slide, {f"{way}, {' '.join(name.split())}": area for name, areas in found.items()
                   for way, area in areas.items()} | lengths


@figure("ours", "the note's second takeaway; Horvitz and Thompson (1952)")
def sampled_truth(seed, k=100, draws=(5, 10, 20, 40, 80), repeats=200):
    """Can a few exact effects tell which ranking is better? Yes, drawn where the two disagree."""
    model, rng = itf.block_model(seed), np.random.default_rng((seed, 5))
    scores, is_real = model.scores, model.is_real.ravel()
    pairs = {("geometry", "weight"): (BLUE, "o"), ("geometry", "era"): (VERMILION, "s"),
             ("weight", "size"): ("k", "^"), ("cosine", "weight"): (SKY, "D"),
             ("era", "weight"): (ORANGE, "X")}
    slide, (left, right) = new_figure(2, width_ratios=(5, 6))
    numbers, right_order = {}, {}
    for (name, other), (color, marker) in pairs.items():
        words = f"{name} and {other}".replace("era", "ERA")
        place = words.replace(" and ", " and\n")
        disputed, signs = itf.disagreement(scores[name], scores[other], k)
        labels = is_real[disputed]
        lead = np.sum(signs * labels) / k
        left.barh(place, len(disputed), color=color, edgecolor="k")
        left.text(len(disputed) + 2, place, f"{len(disputed)}; precision {lead:+.2f}", va="center")
        right_order[words] = order = []
        for size in (size for size in draws if size < len(disputed)):
            picks = [rng.choice(len(disputed), size, replace=False) for _ in range(repeats)]
            leads = [itf.estimated_lead(labels[p], signs[p], len(disputed), k)[0] for p in picks]
            order.append(np.mean((np.sign(leads) * np.sign(lead) + 1) / 2))     # a tie counts half
        right.plot(draws[:len(order)], order, marker + "-", color=color, ms=11, label=words)
        numbers |= {f"lead, {words}": lead, f"disputed, {words}": len(disputed)}
    left.set(title=f"weights in only one of two top {k}s", xlim=(0, 190))
    left.invert_yaxis()
    right.set(xscale="log", xlabel="labels, drawn among those weights", ylim=(0.2, 1.03),
              title="samples that find the right order")
    log_ticks(draws, right.xaxis)
    right.legend(loc="lower right")
    at_20 = right_order["geometry and weight"][2]
    caption(slide, f"""Two rankings differ only where one's top has a weight that the other's has
        not. Labels of 20 such weights order geometry and weight rightly in {at_20:.0%} of
        samples.""")
    return slide, {"right order from 20": at_20,
                   "right order from 20, cosine": right_order["cosine and weight"][2],
                   "disputed in 164 drawn from all":
                       164 * numbers["disputed, geometry and weight"] / model.U.size, **numbers}


@figure("single effects reproduced; true loss is ours", "the note: gains do not simply add up")
def pruned_loss(seed, sizes=(30, 60, 100, 150, 300, 1000, 4000, 16384)):
    """Does taking interference away make a model better? Yes, if its bias is refitted."""
    model, (mask, mask_bias) = itf.block_model(seed), itf.block_mask(seed)
    x, y = (part[:4096] for part in model.fresh)
    whole, = itf.pruned_loss(model.U, model.b, x, y, model.U, [model.U.size])
    scores = model.scores | {"random": np.random.default_rng((seed, 7)).random(model.U.shape)}
    slide, axes = new_figure(3, sharex=True, sharey=True, height=7)
    for name, line in LINES.items():
        kept = itf.loss_gain(scores[name], model.dL)[np.array(sizes) - 1]
        added_up = 1 + (model.dL.sum() - kept) / model.loss
        axes[0].plot(sizes, added_up, label=RANKINGS.get(name, name), **line)
        for ax, refit in ((axes[1], False), (axes[2], True)):
            loss = itf.pruned_loss(model.U, model.b, x, y, scores[name], sizes, refit)
            ax.plot(sizes, loss / whole, **line)
    real, of_real = model.is_real.sum(), model.dL[model.is_real].sum()
    axes[0].plot(real, 1 + (model.dL.sum() - of_real) / model.loss, "^", color=GREEN, mec="k",
                 ms=14, zorder=4, label="the real weights")
    masked, = itf.pruned_loss(model.U, mask_bias, x, y, mask, [mask.sum()]) / whole
    axes[2].plot(mask.sum(), masked, "*", color=PURPLE, mec="k", ms=22, label="learned mask")
    titles = "added-up single effects", "true loss", "true loss, bias refitted"
    for ax, title in zip(axes, titles):
        ax.axhline(1, color="k", lw=1.5, ls=":")
        ax.axvline(real, color="0.85", lw=8, zorder=0)
        ax.set(xscale="log", yscale="log", title=title, xlabel="weights kept", ylim=(0.4, 4))
        log_ticks((10, 100, 1000, 10000), ax.xaxis)
        log_ticks((0.5, 0.7, 1, 1.5, 2, 3), ax.yaxis)
    axes[0].set_ylabel("loss / the whole model's")
    slide.legend(loc="outside upper center", ncols=4)
    numbers = {f"{way}, {patient}": loss for patient, other in itf.three_models(seed).items()
               for way, loss in other.kept_losses().items()}
    by_weight = numbers["weight, refitted, learned"]
    by_geometry = numbers["live_geometry, refitted, learned"]
    caption(slide, f"""The largest weights, as many as are real (grey), with a refitted bias:
        {by_weight:.2f} times the whole learned model's loss; by geometry
        {by_geometry:.2f} times.""")
    return slide, {"kept by weight": by_weight, **numbers, "learned mask": masked,
                   "mask keeps": mask.sum(), "mask in A": np.mean(model.task.A[mask] > 0),
                   "all over oracle": model.dL.sum() / of_real}


@figure("ours", "the graphs: Circuit Tracing (2025)")
def attribution_graph(seed, examples=300):
    """What makes the graph of one example clean? Active sources; attribution, a little."""
    names = {"all": "all\nweights", "firing": "into\nfiring", "active": "from\nactive",
             "in play": "in play:\nboth", "attribution": "in play, by\nattribution",
             "chance": "in play,\nby chance"}
    models = {"learned": itf.block_model(seed), "silent": itf.silent_model(seed)}
    found = {}
    for patient, model in models.items():
        x, y = (part[:examples] for part in model.other)
        found[patient] = itf.graph_precision(model.U, model.b, model.is_real, x, y)
    model = models["learned"]
    active = np.count_nonzero(model.other[0][:examples], axis=1)
    few = np.argmin(np.abs(active - 22))                       # a readable example
    x, y = (part[few] for part in model.other)
    edges = itf.attribution_graph(model.U, model.b, x)
    right = model.is_real & (edges != 0) & (itf.edge_effects(model.U, model.b, x, y) > 0.01)
    slide, (left, bar) = new_figure(2, width_ratios=(5, 7), height=6.8)
    best = itf.ranking(edges)[:right.sum()]
    for i, j in zip(*np.unravel_index(best[::-1], edges.shape)):
        line, color = ("-", GREEN) if right[i, j] else ("--", ORANGE)
        left.plot([0, 1], [j, i], ls=line, color=color, lw=1 + 4 * edges[i, j])
    left.plot(0 * x, np.arange(128), "|", color="0.8")
    for side, shown in ((0, x > 0), (1, edges.any(axis=1))):
        left.plot([side] * shown.sum(), np.flatnonzero(shown), "ko", ms=5)
    left.set(title=f"one example, {len(best)} right edges: as many strongest", xlim=(-0.15, 1.15),
             xticks=(0, 1), xticklabels=("active sources", "firing targets"), ylim=(130, -3),
             yticks=())
    left.spines["left"].set_visible(False)
    bars(bar, list(names.values()), {f"{patient} model": [shares[name] for name in names]
                                     for patient, shares in found.items()},
         "share of the strongest that are right")
    attribution, weight = (found["learned"][name] for name in ("attribution", "in play"))
    caption(slide, f"""Leaving out inactive sources and shut targets cleans a graph; attribution,
        {attribution:.2f}, adds little to the plain weight, {weight:.2f}. Left: right edges solid,
        others dashed.""")
    return slide, {f"{name}, {patient}": value for patient, shares in found.items()
                   for name, value in shares.items()}


@figure("exact from 90 degrees on, and measured", "the note, Appendix 1")
def weight_sharing(seed):
    """Do the weights of circuits in superposition add? Only if they are orthogonal."""
    degrees = np.array([90, 112.5, 135, 157.5, 180, 60])
    ratios, guess_errors = np.transpose([itf.sharing(t) for t in degrees])
    deviation = np.abs(ratios * (1 + np.cos(np.radians(degrees))**2) - 1)[:5].max()
    fine = np.linspace(90, 180, 200)
    slide, ax = new_figure()
    ax.plot(fine, 1 / (1 + np.cos(np.radians(fine))**2), color=GREY)
    ax.plot(degrees[:5], ratios[:5], "o", color="k", ms=12)
    ax.plot(60, ratios[5], "D", color="w", mec="k", ms=11)
    ax.plot(degrees[:5], guess_errors[:5], "s--", color=PURPLE, ms=10)
    ax.text(100, 1.02, "trained (dots), on 1 / (1 + cos\u00b2 angle), derived", weight="bold")
    ax.text(62, 1.32, "below 90 degrees the derivation ends", va="center")
    ax.text(112, -0.03, "error of the guess \u201cthe larger of both, entry by entry\u201d",
            color=PURPLE, va="top")
    ax.set(ylim=(-0.12, 1.4), ylabel="joint matrix / sum of the separate ones",
           xlabel="angle between the two circuits (degrees)", xticks=(60, *degrees[:5]))
    caption(slide, f"""Orthogonal circuits add, antipodal ones share one weight: ratio
        {ratios[0]:.2f} to {ratios[4]:.2f}, within {deviation:.2%} of the derivation.""")
    return slide, {"largest relative deviation": deviation, "ratio at 60 degrees": ratios[5],
                   "guess off by": guess_errors[1:4], "ratios": ratios[:5]}


@figure("pairs and edge are reproduced, pentagons vary", "the note, Appendix 2")
def converged_geometry(seed):
    """What is interference made of after convergence? Of geometry, or of a sharp edge."""
    dense, sparse = itf.converged_model(seed, 0.25, 256), itf.converged_model(seed, 0.001)
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
def correlated_features(seed, set_size=100, examples=4096):
    """Is all interference noise? No: where features are correlated, its means are useful."""
    model = itf.correlated_model(seed)
    U, x, y = model.U, model.x[:examples], model.y[:examples]
    diagonal = np.eye(len(U), dtype=bool)
    set_of = np.arange(len(U)) // set_size
    same_set = set_of[:, None] == set_of
    within, between = U[same_set & ~diagonal], U[~same_set]
    means = itf.set_mean_component(U, set_size) * ~diagonal
    order = np.random.default_rng((seed, 6)).permutation(len(U))
    back = np.argsort(order)
    random_means = itf.set_mean_component(U[order][:, order], set_size)[back][:, back] * ~diagonal
    random_means *= np.linalg.norm(means) / np.linalg.norm(random_means)      # as long as the means
    kept = {"all": U, "no set\nmeans": U - means, "no random\nmeans": U - random_means,
            "diagonal\n+ means": U * diagonal + means,
            "diagonal\n+ random": U * diagonal + random_means, "diagonal\nonly": U * diagonal}
    trained, refitted = (
        np.concatenate([itf.pruned_loss(weights, model.b, x, y, weights, [U.size], refit)
                        for weights in kept.values()]) for refit in (False, True))
    whole = trained[0]
    losses = {"trained bias": trained / whole, "refitted bias": refitted / whole}
    slide, axes = new_figure(3, width_ratios=(3, 3, 10), height=6)
    slide.colorbar(heatmap(axes[0], U, "virtual weights U"), ax=axes[0], location="bottom")
    groups = [("between", ORANGE, "\\\\", between), ("within", SKY, "//", within)]
    histograms(axes[1], groups, np.linspace(-1, 0.6, 50), title="interference", ylim=(0, 3500))
    axes[1].legend(loc="upper right", fontsize=11, handlelength=1)
    bars(axes[2], list(kept), losses, "loss over the whole model's")
    caption(slide, f"""Mean interference: {within.mean():+.2f} within sets, {between.mean():+.2f}
        between. To the diagonal, these means bring the loss to {trained[3] / whole:.2f}, random
        ones to {trained[4] / whole:.2f}.""")
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
    right.set_ylim(0, 1.4 * whole)
    right.text(-0.45, 1.02 * whole, f"whole model: {whole:.2f}")
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


@contextlib.contextmanager
def replacing(path):
    """Another path, renamed at the end: nobody ever sees half a file, and no two writers meet."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
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
    with writer.saving(slides[0], path, dpi=100):
        for slide in [*slides, *slides[-1:] * 4]:
            writer.fig = slide
            writer.grab_frame()


def make(name, seed, folder, suffix):
    """Build one figure and write it; returns it, its path, and its headline number in words."""
    slide, numbers = FIGURES[name](seed)
    is_film = name == "training"
    path = folder / f"{name}.{'gif' if is_film else suffix}"
    with replacing(path) as part:
        if is_film:
            write_film([training(seed, step)[0] for step in FILM_STEPS], part)
        else:
            write_figure(slide, part)
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
    option("--format", choices=("png", "svg", "pdf"), default="png", help="default: png; film: gif")
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
