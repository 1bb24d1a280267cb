"""Pictures: folders, decoding, streams of batches, sample photographs, and data sets with scores."""

from memviz.images.archive import content_hash, state
from memviz.images.decode import decode_image, open_image
from memviz.images.duplicates import near_duplicates
from memviz.images.folder import find_images, list_images
from memviz.images.lamem import lamem, lamem_split
from memviz.images.memcat import memcat
from memviz.images.samples import package_photos, sample_photos
from memviz.images.scored import check_readable, mixed, read_csv
from memviz.images.split import Split, split
from memviz.images.stream import Batch, Failure, stream

__all__ = [
    "Batch",
    "Failure",
    "Split",
    "check_readable",
    "content_hash",
    "decode_image",
    "find_images",
    "lamem",
    "lamem_split",
    "list_images",
    "memcat",
    "mixed",
    "near_duplicates",
    "open_image",
    "package_photos",
    "read_csv",
    "sample_photos",
    "split",
    "state",
    "stream",
]
