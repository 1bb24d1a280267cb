"""Caffe's files, as tests write them."""

from memviz.models.caffe import message_class


def fill_blob(blob, array, legacy):
    """Writes an array into a Blob message; the older form has always four axes."""
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
    else:
        blob.shape.dim.extend(array.shape)
    blob.data.append(array.astype("<f4").tobytes())
    return blob


def net(weights, v1, legacy):
    """A Net message with a data layer, which has no weights, before the layers of `weights`."""
    message = message_class("Net")(name="a network")
    layers = message.layers if v1 else message.layer
    layers.add(name="data", type=5 if v1 else "Data")
    for name, arrays in weights.items():
        kind = "InnerProduct" if arrays[0].ndim == 2 else "Convolution"
        layer = layers.add(name=name, type={"InnerProduct": 14, "Convolution": 4}[kind] if v1 else kind)
        for array in arrays:
            fill_blob(layer.blobs.add(), array, legacy)
    return message
