"""Where pictures come from: folders, decoding, streams of batches, the sample photographs."""

from memviz.images.decode import open_image
from memviz.images.folder import list_images
from memviz.images.samples import sample_photos
from memviz.images.stream import Batch, Failure, stream

__all__ = ["Batch", "Failure", "list_images", "open_image", "sample_photos", "stream"]
