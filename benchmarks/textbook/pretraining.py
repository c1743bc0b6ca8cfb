"""TCL pre-training as one writes it from the paper in an afternoon: fp32, stock timm and transformers modules.

It does what the published code does: four passes of the fusion layers (matched pairs, mismatched pairs, the masked text
in the student and in the teacher), each from the image tokens; an MLM head over every token; two texts encoded apart.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertLayer, BertOnlyMLMHead

from benchmarks.textbook.losses import cross_modal, intra_modal, local_global, masked_language
from tcl.data.batch import Batch
from tcl.models.encoders import Encoders
from tcl.models.fusion_encoder import BERT_LAYER_NAMES
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher


class Networks(nn.Module):
    """Stock modules with the weights of `encoders`: image and text of one width."""

    def __init__(self, encoders: Encoders):
        super().__init__()
        self.visual_encoder = copy.deepcopy(encoders.image_encoder.vit)
        self.text_encoder = copy.deepcopy(encoders.text_encoder.bert)
        self.vision_proj = copy.deepcopy(encoders.vision_proj)
        self.text_proj = copy.deepcopy(encoders.text_proj)
        config = copy.deepcopy(self.text_encoder.config)
        config.is_decoder = config.add_cross_attention = True
        self.fusion_layers = nn.ModuleList(BertLayer(config) for _ in encoders.fusion_encoder.layers)
        for theirs, ours in zip(self.fusion_layers, encoders.fusion_encoder.layers, strict=True):
            for name, our_name in BERT_LAYER_NAMES.items():
                theirs.get_submodule(name).load_state_dict(ours.get_submodule(our_name).state_dict())
        self.mlm_head = BertOnlyMLMHead(config)
        head = self.mlm_head.predictions
        head.transform.dense.load_state_dict(encoders.mlm_head.dense.state_dict())
        head.transform.LayerNorm.load_state_dict(encoders.mlm_head.norm.state_dict())
        del head.bias
        head.decoder.bias.data.copy_(encoders.mlm_head.bias)
        head.decoder.weight = self.text_encoder.embeddings.word_embeddings.weight

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor) -> Tensor:
        """Text tokens [R, L, width] with their image's [R, N, width] -> [R, L, width]."""
        seen = torch.zeros(text_mask.shape, dtype=text.dtype, device=text.device)
        seen = seen.masked_fill(text_mask == 0, torch.finfo(text.dtype).min)[:, None, None, :]
        for layer in self.fusion_layers:
            text = layer(text, attention_mask=seen, encoder_hidden_states=image)
        return text


class TextbookTCL(nn.Module):
    """Student, teacher and queues in one module, with the weights of ours; a forward pass is a step's losses."""

    def __init__(self, student: TCLStudent, teacher: TCLTeacher):
        super().__init__()
        self.online, self.momentum = Networks(student.encoders), Networks(teacher.encoders)
        self.momentum.requires_grad_(False)
        self.itm_head = copy.deepcopy(student.itm_head)
        self.temperature = nn.Parameter(student.temperature.detach().clone())
        self.m, self.regions, self.grid = (
            teacher.objective.momentum,
            teacher.lmi_regions,
            student.encoders.image_encoder.grid,
        )
        self.register_buffer("image_queue", teacher.image_queue.features.T.contiguous().clone())
        self.register_buffer("text_queue", teacher.text_queue.features.T.contiguous().clone())
        self.pointer = 0

    def forward(self, batch: Batch, alpha: float, negatives: Negatives | None = None) -> dict[str, Tensor]:
        """The eight losses. `negatives` replaces the draw."""
        with torch.no_grad():
            self.temperature.clamp_(0.001, 0.5)
        B, online, temperature = len(batch), self.online, self.temperature
        image_tokens = online.visual_encoder(batch.inputs["image"].view)
        image = F.normalize(online.vision_proj(image_tokens[:, 0]), dim=-1)
        text_tokens = online.encode_text(batch.inputs["text"].ids, batch.inputs["text"].mask)
        text = F.normalize(online.text_proj(text_tokens[:, 0]), dim=-1)

        with torch.no_grad():
            self.update_momentum()
            momentum = self.momentum
            image_tokens_m = momentum.visual_encoder(batch.inputs["image"].other_view)
            image_all_m = F.normalize(momentum.vision_proj(image_tokens_m), dim=-1)
            text_tokens_m = momentum.encode_text(batch.inputs["text"].ids, batch.inputs["text"].mask)
            text_all_m = F.normalize(momentum.text_proj(text_tokens_m), dim=-1)
            image_m, text_m = image_all_m[:, 0], text_all_m[:, 0]
            all_images = torch.cat([image_m.T, self.image_queue], dim=1)
            all_texts = torch.cat([text_m.T, self.text_queue], dim=1)
            patches = image_all_m[:, 1:].transpose(1, 2).unflatten(2, self.grid)
            regions = F.adaptive_avg_pool2d(patches, self.regions).flatten(2).transpose(1, 2)

        i2t, t2i = image @ all_texts / temperature, text @ all_images / temperature
        losses = {
            "i2t": cross_modal(i2t, image_m @ all_texts / temperature.detach(), alpha),
            "t2i": cross_modal(t2i, text_m @ all_images / temperature.detach(), alpha),
            "imc_image": intra_modal(image @ all_images / temperature),
            "imc_text": intra_modal(text @ all_texts / temperature),
            "lmi_image": local_global(image, regions, temperature, torch.ones(regions.shape[:2], device=image.device)),
            "lmi_text": local_global(text, text_all_m[:, 1:], temperature, batch.inputs["text"].mask[:, 1:]),
        }
        self.enqueue(image_m, text_m)

        images, texts = self.draw(i2t[:, :B], t2i[:, :B]) if negatives is None else (negatives.images, negatives.texts)
        mask = batch.inputs["text"].mask
        matched = online.fuse(text_tokens, mask, image_tokens)[:, 0]
        mismatched = online.fuse(
            torch.cat([text_tokens, text_tokens[texts]]),
            torch.cat([mask, mask[texts]]),
            torch.cat([image_tokens[images], image_tokens]),
        )[:, 0]
        labels = torch.cat([torch.ones(B), torch.zeros(2 * B)]).long().to(image.device)
        losses["itm"] = F.cross_entropy(self.itm_head(torch.cat([matched, mismatched])), labels)

        mlm_labels = torch.full_like(batch.inputs["text"].ids, -100)
        mlm_labels.view(-1)[batch.inputs["text"].masked.positions] = batch.inputs["text"].masked.labels
        with torch.no_grad():
            masked_m = momentum.fuse(momentum.encode_text(batch.inputs["text"].masked.ids, mask), mask, image_tokens_m)
            soft_labels = F.softmax(momentum.mlm_head(masked_m), dim=-1)
        masked = online.fuse(online.encode_text(batch.inputs["text"].masked.ids, mask), mask, image_tokens)
        losses["mlm"] = masked_language(online.mlm_head(masked), mlm_labels, soft_labels, alpha)
        return losses

    @torch.no_grad()
    def draw(self, i2t: Tensor, t2i: Tensor) -> tuple[Tensor, Tensor]:
        """A hard negative image for each text and text for each image, one draw at a time."""
        B = len(i2t)
        images = F.softmax(t2i, dim=1).fill_diagonal_(0)
        texts = F.softmax(i2t, dim=1).fill_diagonal_(0)
        image_index = [int(torch.multinomial(images[b], 1)) for b in range(B)]
        text_index = [int(torch.multinomial(texts[b], 1)) for b in range(B)]
        return torch.tensor(image_index, device=i2t.device), torch.tensor(text_index, device=i2t.device)

    def update_momentum(self) -> None:
        for own, online in zip(self.momentum.parameters(), self.online.parameters(), strict=True):
            own.data = own.data * self.m + online.data * (1 - self.m)

    def enqueue(self, image: Tensor, text: Tensor) -> None:
        """The queue's size is a multiple of the batch, as the published code demands."""
        B, K = len(image), self.image_queue.shape[1]
        assert K % B == 0
        self.image_queue[:, self.pointer : self.pointer + B] = image.T
        self.text_queue[:, self.pointer : self.pointer + B] = text.T
        self.pointer = (self.pointer + B) % K


def build_textbook_optimizer(model: TextbookTCL, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW as one writes it; biases and norms do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim >= 2]
    others = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def textbook_step(
    model: TextbookTCL, optimizer: torch.optim.Optimizer, losses: dict[str, Tensor], clip_grad_norm: float
) -> None:
    """Backward and optimiser, after the forward pass that gave `losses` and brought momentum and queues up to date."""
    contrastive = ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text")
    total = sum(losses[name] for name in contrastive) / 6 + losses["itm"] + losses["mlm"]
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
    optimizer.step()
