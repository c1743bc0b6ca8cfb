"""What `tcl index --info` says."""

from collections import Counter

from tcl.index.engine import Engine
from tcl.index.store import Store, told


def info_of(store: Store, engine: Engine) -> dict[str, object]:
    """Of an opened index. InputError: it is damaged, its engine cannot be reached."""
    description, catalogue = store.description, store.catalogue
    with told(store.folder):
        images, pending = catalogue.count(), catalogue.pending()
        return {
            "images": images,
            "not_searchable_yet": pending,
            "skipped": dict(Counter(one.cause for one in catalogue.skipped()).most_common()),
            "of": description.images or description.shards,
            "model": description.model,
            "weights": description.embedding_maker,
            "embeddings": f"{description.embeddings} [{description.embed_dim}]",
            "tokens": f"{description.tokens} {list(description.token_shape or ())}",
            "matcher": description.matcher,
            "bank": description.bank,
            "engine": engine.describe() if images > pending else description.engine,
            "bytes_of_an_image": store.bytes_of_image(),
            "bytes": sum(path.stat().st_size for path in store.folder.iterdir() if path.is_file()),
        }
