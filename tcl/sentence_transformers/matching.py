"""The second stage for `CrossEncoder`: does a text belong to an image?"""

from contextlib import nullcontext

import torch
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput

from tcl.inference.embed import PASS_TOKENS
from tcl.inference.matcher import Matcher
from tcl.search.match_pairs import images_logits, read_states
from tcl.sentence_transformers.export_model import ExportModel


class TCLMatching(ExportModel):
    """What `TCL` gives as `match`, before the sigmoid that `CrossEncoder.predict` applies."""

    opened_as = Matcher
    can = "match texts with images"

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_of_pair: Tensor,
        return_dict: bool = True,
    ) -> SequenceClassifierOutput:
        """Ids and mask [P, L] of the texts of P pairs, pixels [I, 3, height, width] of different images, normalised,
        and which of these is of each pair (int64 [P]) -> logits fp32 [P, 1], whose sigmoid is the probability that the
        two belong together. Keys and values of an image are made once for all of its texts. return_dict: True, as
        sentence-transformers says."""
        encoders = self.student.encoders
        states = read_states(
            encoders.text_encoder,
            encoders.fusion_encoder,
            input_ids,
            attention_mask,
            pass_tokens=PASS_TOKENS,
            autocast=nullcontext,
        )
        pairs_of_image = [(image_of_pair == image).nonzero()[:, 0] for image in range(len(pixel_values))]
        tokens = encoders.image_encoder(pixel_values)
        logits = torch.cat(
            images_logits(encoders.fusion_encoder, self.student.itm_head, tokens, pairs_of_image, states, PASS_TOKENS)
        )
        margins = logits[torch.cat(pairs_of_image).argsort()] @ logits.new_tensor([-1.0, 1.0])
        return SequenceClassifierOutput(logits=margins[:, None])
