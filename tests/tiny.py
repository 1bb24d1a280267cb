"""Tiny networks, each with something that looking inside a network can get wrong."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model


class InPlace(nn.Module):
    """Each convolution's output is overwritten at once, in the ways that people write it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.same = nn.Identity()
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, pictures):
        maps = self.relu(self.conv1(pictures))
        other = self.same(self.conv2(maps))
        maps += other
        other.mul_(-2)
        maps = F.relu(self.norm(self.conv3(maps)), inplace=True)
        F.relu_(maps.sub_(0.1))
        return self.fc((maps + other).mean((2, 3)))


class SharedInput(nn.Module):
    """One branch overwrites what the other reads: no reader of the first branch's result is needed for that."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 2, 3)
        self.right = nn.Conv2d(4, 2, 3)

    def forward(self, pictures):
        maps = self.stem(pictures)
        left = self.left(self.relu(maps))
        return left + self.right(maps)


class Discarded(SharedInput):
    """The in-place operation's result is not used at all."""

    def forward(self, pictures):
        maps = self.stem(pictures)
        self.relu(maps)
        return self.right(maps) + self.left(maps.abs())


class Repeated(nn.Module):
    """The same modules run several times; the last output counts."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(3, 2, 3, stride=2)

    def forward(self, pictures):
        for _ in range(3):
            pictures = self.relu(self.first(pictures))
        return self.last(pictures)


class Constants(nn.Module):
    """Keeps a result as an attribute, and computes with tensors that are neither parameters nor buffers."""

    def __init__(self):
        super().__init__()
        self.mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
        self.conv = nn.Conv2d(3, 4, 3)
        self.kept = None

    def forward(self, pictures):
        self.kept = self.conv((pictures - self.mean) * torch.tensor(2.0))
        return self.kept.mean((2, 3))


class DataDependent(nn.Module):
    """Cannot be traced: its course depends on the picture."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pictures):
        if pictures.mean() > 100:
            pictures = pictures / 255
        return self.network(pictures)


class Viewed(nn.Module):
    """Flattens its maps by `view`, which torch refuses where they are channels_last."""

    def __init__(self, side=12):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * side * side, 1)

    def forward(self, pictures):
        return self.fc(self.conv(pictures).view(len(pictures), -1))


class Branches(nn.Module):
    """Two branches with residual blocks, like ResMem."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))
        self.right = nn.Sequential(nn.Conv2d(3, 4, 1), Block(4, 6), Block(6, 6))
        self.head = nn.Linear(10, 1)

    def forward(self, pictures):
        return self.head(torch.cat([self.left(pictures).mean((2, 3)), self.right(pictures).mean((2, 3))], 1))


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = nn.Sequential(nn.Conv2d(before, after, 1)) if before != after else nn.Identity()

    def forward(self, maps):
        out = self.relu(self.bn1(self.conv1(maps)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(maps)
        return self.relu(out)


class Toy(nn.Module):
    """A memorability model small enough to save, damage and load in a millisecond."""

    branches = ("alexnet", "resnet")

    def __init__(self):
        super().__init__()
        self.alexnet = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(inplace=True))
        self.resnet = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4))
        self.head = nn.Linear(8, 1)

    def forward(self, pictures):
        maps = torch.cat([self.alexnet(pictures), self.resnet(pictures)], 1)
        return torch.sigmoid(self.head(maps.mean((2, 3))))


NETWORKS = {network.__name__: network for network in (InPlace, SharedInput, Discarded, Repeated, Constants, Branches)}


class Scored(nn.Module):
    """A network whose outputs are added up and go through a sigmoid, so that it has one score."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.sigmoid = nn.Sigmoid()

    def forward(self, pictures):
        return self.sigmoid(self.network(pictures).flatten(1).sum(1, keepdim=True))


def built(name):
    """A tiny network in evaluation mode, with batch norms that do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                    tensor.data.uniform_(0.3, 2)
    return network.eval()


def pictures(count=2, side=12, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def addresses(network):
    return [name for name, _ in network.named_modules()]


def truth(network, batch, every):
    """The last output of each module, copied at the moment when it is made, by nothing but torch's hooks."""
    outputs = {}

    def keep(name):
        return lambda part, inputs, output: outputs.__setitem__(name, output.detach().clone())

    modules = dict(network.named_modules())
    handles = [modules[name].register_forward_hook(keep(name)) for name in every]
    network(batch)
    for handle in handles:
        handle.remove()
    return outputs


def torchvision_network(name, **options):
    """A torchvision network with random weights; their own initialization would take seconds."""
    if name == "vit_b_16":
        options |= {"image_size": 32}
    elif name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False}
    if name == "swin_t":  # its tables of positions come only with its own initialization
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return get_model(name, weights=None).eval()
    with torch.device("meta"):
        network = get_model(name, weights=None, **options)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.dim() > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    return network.eval()
