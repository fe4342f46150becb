"""The Siamese-GAP network: weights are shared, levels are pooled and fused, its file brings it back."""

import pytest
import torch

from bundle.networks.grade_blocks import GradeLoss, log_probabilities, table_blocks
from bundle.networks.siamese_gap import SiameseGAP, knee_attention, load_siamese, parameter_table


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SiameseGAP(outputs=2, channels=(4, 6, 8)).eval()


@pytest.fixture
def patches():
    return torch.randn(3, 2, 20, 20, generator=torch.Generator().manual_seed(1))


def test_both_patches_are_read_by_the_same_weights(network, patches):
    """Exchanged patches exchange the halves of the fused vector: with exchanged columns the scores are the same."""
    half = sum(network.channels)
    turned = SiameseGAP(**network.settings()).eval()
    turned.load_state_dict(network.state_dict())
    weight = network.head.weight.detach()
    with torch.no_grad():
        turned.head.weight.copy_(torch.cat([weight[:, half:], weight[:, :half]], dim=1))
        torch.testing.assert_close(turned(patches.flip(1)), network(patches))
        assert not torch.allclose(network(patches.flip(1)), network(patches)), "the sides must not be confused"


@pytest.mark.parametrize("level", range(3))
def test_every_level_reaches_the_scores(network, patches, level):
    """With the weights of one level's features alone in the last layer, the scores still depend on the film."""
    first = sum(network.channels[:level])
    with torch.no_grad():
        keep = torch.zeros(sum(network.channels))
        keep[first : first + network.channels[level]] = 1
        network.head.weight.mul_(keep.repeat(2))
        scores = network(patches)
    assert scores.std(dim=0).min() > 1e-5


def test_pooling_is_what_the_ablation_says():
    """A constant map has one value, so both agree on it; a single bright pixel counts in full for the maximum alone."""
    torch.manual_seed(0)
    average = SiameseGAP(channels=(3,), pooling="average").eval()
    maximum = SiameseGAP(channels=(3,), pooling="maximum").eval()
    maximum.load_state_dict(average.state_dict())
    point = torch.zeros(1, 2, 16, 16)
    point[..., 8, 8] = 9.0
    with torch.no_grad():
        silent = average(torch.zeros(1, 2, 16, 16))
        torch.testing.assert_close(silent, maximum(torch.zeros(1, 2, 16, 16)))
        assert (maximum(point) - silent).abs().max() > 4 * (average(point) - silent).abs().max()


def test_table_counts_every_parameter_once(network):
    rows = parameter_table(network, patch_size=20)
    assert sum(row[3] for row in rows) == sum(parameter.numel() for parameter in network.parameters())
    assert [row[2] for row in rows if row[0].startswith("level")] == ["4 x 20 x 20", "6 x 10 x 10", "8 x 5 x 5"]


def test_attention_is_where_the_evidence_is():
    """One channel that sees brightness, and a head that counts it medially: the map is there and not laterally."""
    network = SiameseGAP(channels=(1,)).eval()
    with torch.no_grad():
        for block in (0, 3):
            network.levels[0][block].weight.zero_()
            network.levels[0][block].weight[0, 0, 1, 1] = 1.0
        network.head.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    patches = torch.zeros(1, 2, 16, 16)
    patches[0, :, 4:7, 10:13] = 1.0
    attention = knee_attention(network, patches, output=1)
    assert attention[0].max() == 1
    assert attention[0].argmax() // 16 in (4, 5, 6)
    assert attention[1].max() == 0, "what speaks against an output is not shown as speaking for it"


@pytest.mark.parametrize(
    ("options", "word"),
    [({"pooling": "median"}, "average, maximum"), ({"outputs": 1}, "`outputs`"), ({"channels": ()}, "`channels`")],
)
def test_arguments_out_of_range_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        SiameseGAP(**options)


@pytest.mark.parametrize("shape", [(2, 20, 20), (1, 1, 20, 20), (1, 2, 3, 20)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match="JointPatches"):
        network(torch.zeros(shape))


def test_absent_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train it first"):
        load_siamese(tmp_path / "none.pt", remedy="train it first")
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"bad.pt: not the weights"):
        load_siamese(tmp_path / "bad.pt", remedy="")


def test_loss_is_the_mean_over_known_grades():
    """Scores of 0 give each of 2 grades log 2 and each of 4 log 4; a missing variable does not count."""
    blocks = {"a": 2, "b": 4}
    target = torch.tensor([[1.0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]])
    loss = GradeLoss(blocks)(torch.zeros(2, 6), target)
    expected = (2 * torch.tensor(2.0).log() + torch.tensor(4.0).log()) / 3
    torch.testing.assert_close(loss, expected)
    assert GradeLoss(blocks)(torch.zeros(1, 6), torch.zeros(1, 6)) == 0


def test_blocks_of_the_table_fill_its_vector():
    blocks = table_blocks("oai")
    assert len(blocks) == 19
    assert sum(blocks.values()) == 66
    shares = log_probabilities(torch.randn(2, 66), blocks)
    torch.testing.assert_close(shares["XRKL"].exp().sum(dim=1), torch.ones(2))
    with pytest.raises(ValueError, match="19 variables"):
        log_probabilities(torch.zeros(2, 65), blocks)
