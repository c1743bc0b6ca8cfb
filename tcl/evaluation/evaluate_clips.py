"""Retrieval among video, sound and text: each finds each other one in the space of the two, on clips held out.

Of two modalities only what has a partner in the other one asks and is found: chance is the same both ways, and a sample
without sound makes text and video no harder.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from tcl.data.batch import Batch, to_device
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import counted
from tcl.data.video.clips import Clips
from tcl.errors import InputError
from tcl.evaluation.chance import found_by_chance
from tcl.evaluation.recall import CUTS
from tcl.losses.mil_nce import unit
from tcl.models.clip_encoders import ClipEncoders
from tcl.search.candidates import rank_by_embedding, relevance

MODALITIES = ("video", "audio", "text")
Rows = dict[tuple[str, str], Tensor]
"""[n, dim], rows of length 1, by modality and space."""


@dataclass
class ClipRows:
    """What was embedded of some clips."""

    rows: Rows = field(default_factory=dict)
    owners: dict[str, Tensor] = field(default_factory=dict)
    """[n] int64 by modality: places of the clips that the rows belong to; a clip may have several captions."""


@torch.no_grad()
def evaluate_clips(
    accelerator: Accelerator,
    encoders: ClipEncoders,
    clips: StreamedSet[Batch],
    batch_size: int,
    modalities: Collection[str] = MODALITIES,
) -> tuple[dict[str, float], Counter[str]]:
    """Called on every process, which share the clips; all get the result: metrics, and how many could not be used.

    Of each two of `modalities` that have a space and are both there in some clip: "video2audio_r1" and so on, in
    percent, "video2audio_median_rank", "video2audio_candidates"; "video2audio_chance_r1", ..., what a random order
    finds, and "video2audio_chance_median_rank", the rank that half of the queries reach in one. InputError on all
    processes: no clip has two modalities.
    """
    was_training = encoders.training
    encoders.eval()
    try:
        own, bad = _embed(accelerator, encoders, clips, batch_size, modalities)
    finally:
        encoders.train(was_training)
    bad, found = sum(gather_object([bad]), Counter()), _together(gather_object([own]))
    metrics: dict[str, float] = {}
    for one, other in combinations((name for name in MODALITIES if name in modalities), 2):
        space = encoders.spaces.space_of(one, other)
        if space is not None and {(one, space), (other, space)} <= found.rows.keys():
            metrics |= _recalls(found, one, other, space)
    if not metrics:
        causes = counted(bad) if bad else "the shards are empty"
        raise InputError(f"data.val: {clips.config.val!r} holds no clip with sound or text that can be used: {causes}")
    return metrics, bad


def _embed(
    accelerator: Accelerator,
    encoders: ClipEncoders,
    clips: StreamedSet[Batch],
    batch_size: int,
    modalities: Collection[str],
) -> tuple[list[ClipRows], Counter[str]]:
    """Of this process' share, on the host."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    found, bad = [], Counter[str]()
    with tqdm(unit="clip", desc="embedding", leave=False, disable=None if rank == 0 else True) as bar:
        for some in clips.batches(batch_size, rank, processes):
            bad += some.bad
            if some.examples is not None:
                with accelerator.autocast():
                    batch = to_device(some.examples, accelerator.device)
                    found.append(_rows_of(encoders, batch, some.places, modalities))
                bar.update(len(some.keys))
    return found, bad


def _rows_of(encoders: ClipEncoders, batch: Batch, places: list[int], modalities: Collection[str]) -> ClipRows:
    frames, sounds, captions = batch.inputs["video"].frames, batch.inputs["audio"], batch.inputs["text"]
    place = torch.tensor(places)
    everyone = torch.ones(len(places), dtype=torch.bool, device=frames.device)
    there = {name: batch.present.get(name, everyone) for name in MODALITIES}
    exist = captions.exist & there["text"][:, None]
    embed = {
        "video": lambda: encoders.embed_clips(Clips(encoders.video_encoder.prepare(frames))),
        "audio": lambda: encoders.embed_sounds(sounds),
        "text": lambda: encoders.embed_captions(captions, exist),
    }
    kept = there | {"text": exist}
    owners = dict.fromkeys(MODALITIES, place) | {"text": place[:, None].expand(exist.shape)}
    result = ClipRows()
    for name in modalities:
        result.owners[name] = owners[name][kept[name].cpu()]
        result.rows |= {(name, space): unit(rows[kept[name]]).cpu() for space, rows in embed[name]().items()}
    return result


def _together(parts: list[list[ClipRows]]) -> ClipRows:
    """Of all processes, without modalities that nothing has."""
    every = [one for part in parts for one in part]
    owners = {name: torch.cat([one.owners[name] for one in every]) for name in (every[0].owners if every else ())}
    rows = {key: torch.cat([one.rows[key] for one in every]) for key in (every[0].rows if every else ())}
    return ClipRows({key: found for key, found in rows.items() if len(found)}, owners)


def _recalls(found: ClipRows, one: str, other: str, space: str) -> dict[str, float]:
    """Both directions of two modalities; none where no clip has both."""
    metrics = {}
    for ask, answer in ((one, other), (other, one)):
        right = found.owners[ask][:, None] == found.owners[answer]
        asked, answers = right.any(dim=1), right.any(dim=0)
        if not asked.any():
            return {}
        right = right[asked][:, answers]
        queries, candidates = found.rows[ask, space][asked], found.rows[answer, space][answers]
        relevant = relevance(*right.nonzero().T, len(queries))
        ranks = rank_by_embedding(queries, candidates, relevant, 1).ranks.float()
        chance = found_by_chance(right.sum(dim=1), len(candidates))
        name = f"{ask}2{answer}"
        metrics |= {f"{name}_r{k}": 100 * (ranks <= k).float().mean().item() for k in CUTS}
        metrics[f"{name}_median_rank"] = ranks.quantile(0.5).item()
        metrics[f"{name}_candidates"] = float(len(candidates))
        metrics |= {f"{name}_chance_r{k}": 100 * chance[min(k, len(candidates)) - 1].item() for k in CUTS}
        metrics[f"{name}_chance_median_rank"] = 1.0 + int((chance < 0.5).sum())
    return metrics
