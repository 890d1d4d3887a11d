"""Schema 1 of the bag file: every bag at every mix, flat with offsets.

B bags with I instances between them, J pairs of a bag and a mix with R rows between them, U source images and E edited
ones of H x W pixels and C channels. An image is stored once, however many rows show it: a sweep does not copy what it
leaves untouched. A flat file opens in the same time whatever B and J are, since HDF5 reads a header for every group.
"""

from __future__ import annotations

from cfdiff.store.schema import CLASS, PROBABILITY, SHARE, Field, Offsets, Row

FORMAT = "cfdiff-bags"
FORMAT_VERSION = 1
_IMAGE = ("H", "W", "C")
_STAGES = "before and after (axis 1), per class (axis 2; 1 is positive)"

SCHEMA: dict[str, Field] = {
    "bag/name": Field(("B",), "string", "", "group, or number of the draw", True),
    "bag/offset": Field(("B+1",), "int64", "row", "bag b is instance/*[offset[b]:offset[b + 1]]", True, Offsets("I")),
    "instance/id": Field(("I",), "string", "", "relative path or key of the image in its source", True),
    "instance/source": Field(("I",), "int64", "row", "its image in source", True, Row("U")),
    "instance/label": Field(("I",), "int8", "class index", "class before: 0 negative, 1 positive", True, CLASS),
    "instance/label_from": Field(("I",), "string", "", "data, or judge where the data does not say", True),
    "instance/frozen": Field(("I",), "bool", "", "must not change", True),
    "instance/stratum": Field(("I",), "string", "", "value of the column by which the edits were shared"),
    "instance/x": Field(("I",), "int64", "pixel of the slide", "left edge of its image in its slide"),
    "instance/y": Field(("I",), "int64", "pixel of the slide", "upper edge of its image in its slide"),
    "instance/side": Field(("I",), "float64", "pixel of the slide", "length of a side of its image"),
    "instance/slide": Field(("I",), "string", "", "the slide that x and y count in"),
    "instance/score": Field(("I",), "float64", "1", "ranking score: the highest of the other class change first", True),
    "instance/sha256": Field(("I",), "string", "", "of the source image's pixels (C order, type as stored)", True),
    "mix/bag": Field(("J",), "int64", "row", "the bag in bag/*", True, Row("B")),
    "mix/offset": Field(
        ("J+1",), "int64", "row", "bag and mix j is row/*[offset[j]:offset[j + 1]]", True, Offsets("R")
    ),
    "mix/requested": Field(("J",), "float64", "1", "fraction of positives asked for, r", True, SHARE),
    "mix/wanted": Field(("J",), "int64", "1", "k = floor(r n + 1/2)", True),
    "mix/planned": Field(("J",), "float64", "1", "k / n", True, SHARE),
    "mix/before": Field(("J",), "float64", "1", "fraction of positives by the labels before", True, SHARE),
    "mix/achieved": Field(("J",), "float64", "1", "by the judge, on all images as saved", values=SHARE),
    "mix/achieved_by_labels": Field(("J",), "float64", "1", "by labels, and the judge where edited", values=SHARE),
    "mix/achieved_by_checker": Field(("J",), "float64", "1", "by labels, and the checker where edited", values=SHARE),
    "mix/target": Field(("J",), "int8", "class index", "class that instances are changed to", True, CLASS),
    "row/instance": Field(("R",), "int64", "row", "the instance in instance/*", True, Row("I")),
    "row/edit": Field(
        ("R",), "int64", "row", "its image in counterfactual; -1: its source, byte for byte", True, Row("E", low=-1)
    ),
    "row/edited": Field(("R",), "bool", "", "its class was changed", True),
    "row/sham": Field(("R",), "bool", "", "edited to its own class, so as to look edited", True),
    "row/label": Field(("R",), "int8", "class index", "class after: that asked for where edited", True, CLASS),
    "row/sha256": Field(("R",), "string", "", "of the image's pixels in this bag", True),
    "prob/checker": Field(("R", "2", "K"), "float32", "probability", f"checker, {_STAGES}", values=PROBABILITY),
    "prob/verifier": Field(
        ("R", "2", "K"), "float32", "probability", f"verifier, which never steers, {_STAGES}", values=PROBABILITY
    ),
    "prob/judge": Field(("R", "2", "K"), "float32", "probability", f"independent judge, {_STAGES}", values=PROBABILITY),
    "edit/source": Field(("E",), "int64", "row", "its image in source", True, Row("U")),
    "edit/target": Field(("E",), "int8", "class index", "class asked for: 0 negative, 1 positive", True, CLASS),
    "edit/used": Field(("E",), "bool", "", "some row shows it; failures that were replaced are kept, but unused", True),
    "edit/status": Field(
        ("E",),
        "string",
        "",
        "ok or not flipped, by the judge (else the verifier, else the checker), or quarantined",
    ),
    "edit/ratio": Field(("E",), "float32", "1", "clamp of the guidance by the network's norm, as used", True),
    "edit/depth": Field(("E",), "float32", "fraction of T", "how far up the image was encoded", True),
    "edit/alpha_bar": Field(("E",), "float32", "1", "alpha_bar at that depth", True),
    "edit/retries": Field(("E",), "int16", "1", "rungs of the retry ladder that were climbed", True),
    "edit/network_calls": Field(("E",), "int32", "1", "calls of the diffusion network for this image", True),
    "source": Field(("U", *_IMAGE), "image", "stored value", "images as read", True),
    "counterfactual": Field(("E", *_IMAGE), "image", "stored value", "edited images as written", True),
    "difference": Field(("E", *_IMAGE), "float16", "fraction of the full range", "counterfactual - source", True),
}
