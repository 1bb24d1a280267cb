"""Units that photographs do not move, against their activations behind the ReLU, computed one by one."""

import torch
from helpers import unchanged, undisturbed, write_noise
from torch import nn
from torch.nn import functional as F

import memviz
from memviz.explanation.silent import silent_units
from memviz.images import list_images, open_image
from memviz.models import InputSpec

INPUTS = InputSpec(size=(8, 8), resize=8)


class Mixed(nn.Module):
    """A convolution before a batch norm and a ReLU, one before a ReLU in place, a residual block, and one without."""

    def __init__(self):
        super().__init__()
        self.normed, self.norm, self.relu = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
        self.direct, self.in_place = nn.Conv2d(16, 16, 1), nn.ReLU(inplace=True)
        self.block = Block()
        self.last = nn.Conv2d(16, 8, 1)

    def forward(self, pictures):
        maps = self.relu(self.norm(self.normed(pictures)))
        return F.relu(self.last(self.block(self.in_place(self.direct(maps)))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)

    def forward(self, maps):
        out = self.norm(self.conv(maps))
        out += maps
        return self.relu(out)


def test_counts_are_those_of_the_activations_behind_the_relu(tmp_path):
    photos = write_noise(tmp_path / "photos", 12, 8)
    network = Mixed().eval()
    with torch.no_grad():
        for norm in (network.norm, network.block.norm):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.uniform_(0.3, 2)
        network.norm.bias[:4] = -20
        network.norm.weight[3:6] *= -1
        network.normed.weight[15] = 0
        network.direct.bias[:5] = torch.linspace(-9, 0.1, 5)
        network.block.norm.bias[7:9] = -30
    model = memviz.wrap(network, INPUTS, name="mixed")
    index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
    with unchanged(network), undisturbed():
        found = {each.address: each for each in silent_units(model, index)}

    batch = torch.stack([INPUTS.from_pil(open_image(path)) for path in list_images(photos)])
    with torch.no_grad():
        normed = network.relu(network.norm(network.normed(batch))).amax((2, 3))
        direct = network.direct(network.relu(network.norm(network.normed(batch)))).relu().amax((2, 3))
        block = network.block(network.direct(network.relu(network.norm(network.normed(batch)))).relu()).amax((2, 3))
    told = torch.arange(16) != 15  # which is constant
    told[3:6] = False  # turned over
    expected = int((normed.amax(0)[told] <= 0).sum())
    assert expected >= 3
    assert (found["normed"].constant, found["normed"].silent, found["normed"].unknown) == (1, expected, 3)
    assert found["direct"].silent == int((direct.amax(0) <= 0).sum()) >= 3
    assert found["block"].constant == int((block.std(0) == 0).sum()) >= 2
    assert found["block"].silent == 0
    assert found["block.conv"].silent is None  # the sum lies between
    assert found["last"].silent is None  # no module's ReLU
