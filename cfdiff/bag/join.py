"""cfdiff join of bags: the command itself does it, which takes what the shards have done and does what they left."""

from __future__ import annotations

from pathlib import Path

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.bag.summary import BagSummary, summarise_bags
from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.join.settings import JoinSettings
from cfdiff.progress import Progress
from cfdiff.store.join import was_joined
from cfdiff.store.output import parts_dir
from cfdiff.store.shards import COMMAND, check_finished


def join_bags(s: JoinSettings, progress: Progress) -> BagSummary:
    """The bag file of all shards. What replaces instances that did not flip is edited now, by workers where asked.

    Raises:
        UserError: shards have not finished, which are named; or the data or models cannot be opened; or volumes are
            asked for.
    """
    if s.volume is not None:
        raise UserError("--volume is for results of cfdiff translate, and a bag file is one file: leave it out.")
    if was_joined(s.run, s.force):
        return summarise_bags(s.run)
    folder = parts_dir(s.run)
    check_finished(folder)
    try:
        told = parse_json((folder / COMMAND).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{folder / COMMAND} is gone or damaged: run a shard again.") from error
    if told["folder"] != str(Path.cwd()):
        raise UserError(f"The shards of bags were started in {told['folder']}: join them there, as they name files.")
    here = {"out": s.run, "workers": s.workers, "ray": s.ray, "device": s.device, "force": s.force}
    here["remote"] = s.remote
    settings = BagSettings(**{**told["settings"], **here, **({} if s.threads is None else {"threads": s.threads})})
    summary = bag(settings, progress)
    assert isinstance(summary, BagSummary)
    return summary
