import numpy as np

from memviz.site.neighbours import neighbours


def test_they_are_those_of_the_whole_table_of_similarities(index):
    layer = index.layer("alexnet.conv4")
    count, kept = index.result.files, layer.images.shape[2]
    weights = np.zeros((len(layer.mean), count))
    for unit in range(len(layer.mean)):
        for rank in range(kept):
            if layer.std[unit] > 0:
                above = (layer.values[unit, 0, rank] - layer.mean[unit]) / layer.std[unit]
                weights[unit, layer.images[unit, 0, rank]] = max(0, above)
    norms = np.linalg.norm(weights, axis=1)
    found = neighbours(layer, most=4)
    assert found[1] == []  # it never varies
    for unit in range(len(norms)):
        alike = {
            other: weights[unit] @ weights[other] / (norms[unit] * norms[other])
            for other in range(len(norms))
            if other != unit and norms[unit] * norms[other] > 0
        }
        expected = sorted((other for other in alike if alike[other] > 0), key=lambda other: -alike[other])[:4]
        assert found[unit] == expected
