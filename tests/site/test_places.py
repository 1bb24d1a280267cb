import pytest

from memviz.site.places import layer_place, link


def test_a_unit_and_a_layer_never_share_a_page():
    addresses = ["layer1", "layer1.5", "branch.conv", "branch.conv.5"]
    places = [layer_place(address, addresses) for address in addresses]
    units = [f"{place}/{channel}" for place in places for channel in range(10)]
    assert len({*places, *units}) == len(places) + len(units)


@pytest.mark.parametrize("source", ["", "a", "a/b", "a/b/5"])
@pytest.mark.parametrize("target", ["index.html", "a/index.html", "a/b/5/index.html", "c/index.html"])
def test_links_lead_from_page_to_page(tmp_path, source, target):
    for place in (source, target.rpartition("/")[0]):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / target).touch()
    assert (tmp_path / source / link(source, target)).resolve() == (tmp_path / target).resolve()
