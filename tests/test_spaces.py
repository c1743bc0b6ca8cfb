"""MMV's spaces beyond what the golden file shows: which rows make statistics, and which heads a loss depends on."""

import pytest
import torch
from torch.nn import functional as F

from tcl.config.spaces import SpacesConfig, check_spaces
from tcl.errors import InputError
from tcl.models.corrected_batch_norm import CorrectedBatchNorm
from tcl.models.spaces import GRAPHS, Spaces

WIDTHS = {"video": 6, "audio": 5, "text": 4}
EVERY_GRAPH = pytest.mark.parametrize("graph", GRAPHS)


def spaces(graph: str, audio_text: bool = False) -> Spaces:
    torch.manual_seed(0)
    return Spaces(SpacesConfig(graph, fine_dim=8, coarse_dim=3), WIDTHS, audio_text)


@EVERY_GRAPH
@pytest.mark.parametrize("modality", WIDTHS)
def test_rows_that_are_not_there_count_for_nothing(graph, modality):
    """The same as with the rows left out before."""
    rows, counts = torch.randn(7, WIDTHS[modality]), torch.tensor([1, 0, 1, 1, 0, 1, 0]).bool()
    with_all, with_some = spaces(graph, True).train(), spaces(graph, True).train()
    found = with_all(modality, rows.masked_fill(~counts[:, None], 1e4), counts)
    expected = with_some(modality, rows[counts])
    assert found.keys() == expected.keys()
    for space, embedded in expected.items():
        torch.testing.assert_close(found[space][counts], embedded)
    for one, other in zip(with_all.buffers(), with_some.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_running_statistics_are_weighted_means_of_what_was_seen():
    norm, batches = CorrectedBatchNorm(3).train(), torch.randn(5, 8, 3).unbind()
    for batch in batches:
        norm(batch)
    weights = torch.tensor([0.9**age for age in (4, 3, 2, 1, 0)])
    weights /= weights.sum()
    for running, seen in (
        (norm.running_mean, [batch.mean(dim=0) for batch in batches]),
        (norm.running_var, [batch.var(dim=0, unbiased=False) for batch in batches]),
    ):
        torch.testing.assert_close(running, (weights[:, None] * torch.stack(seen)).sum(dim=0))


def test_a_batch_in_which_nothing_counts_is_not_remembered():
    norm = CorrectedBatchNorm(3).train()
    norm(torch.randn(4, 3))
    before = [buffer.clone() for buffer in norm.buffers()]
    found = norm(torch.randn(4, 3), torch.zeros(4, dtype=torch.bool))
    assert torch.isfinite(found).all()
    assert all(now.equal(then) for now, then in zip(norm.buffers(), before, strict=True))


def test_fine_and_coarse_by_hand():
    """arXiv 2006.16228, section 3.1: g_vat of g_va of the clip, the same g_vat of the sound."""
    fac = spaces("fac").eval()
    video, audio = torch.randn(2, 6), torch.randn(2, 5)
    fine = fac("video", video)["va"]
    heads = {name: head.layers for name, head in fac.heads.items()}
    hidden = F.relu(heads["video_va"][1](heads["video_va"][0](video)))
    torch.testing.assert_close(fine, heads["video_va"][4](heads["video_va"][3](hidden)))
    for modality, rows in (("video", video), ("audio", audio)):
        found = fac(modality, rows)
        coarse = heads["va_vat"][1](heads["va_vat"][0](F.relu(found["va"])))
        torch.testing.assert_close(found["vat"], coarse)


@pytest.mark.parametrize(
    "graph, audio_text, in_training",
    [("fac", False, {"va"}), ("fac", True, {"va", "vat"}), ("disjoint", False, {"va"})],
)
def test_sound_is_led_to_text_only_where_that_is_asked(graph, audio_text, in_training):
    made = spaces(graph, audio_text)
    assert made.train()("audio", torch.randn(3, 5)).keys() == in_training
    assert made.eval()("audio", torch.randn(3, 5)).keys() == (in_training if graph == "disjoint" else {"va", "vat"})


def test_where_two_modalities_are_compared():
    assert spaces("fac").space_of("text", "audio") == "vat"
    assert spaces("disjoint").space_of("text", "audio") is None
    assert spaces("disjoint", True).space_of("audio", "text") == "at"
    assert spaces("shared").space_of("video", "audio") == "va"


def test_heads_of_a_loss():
    assert spaces("fac").used_heads([("video", "text")]) == {"video_va", "va_vat", "text_vat"}
    assert spaces("fac").used_heads([("video", "audio")]) == {"video_va", "audio_va"}
    assert spaces("disjoint").used_heads([("video", "text")]) == {"video_vat", "text_vat"}


@pytest.mark.parametrize("name", ["fine_dim", "coarse_dim"])
def test_widths_are_checked(name):
    with pytest.raises(InputError, match=rf"^model\.spaces\.{name}: 0 is not possible; accepted: a width"):
        check_spaces(SpacesConfig(**{name: 0}))
