"""Laws of networks over codes: they look back only, say uniform when fresh, and walk as they train."""

import pytest
import torch

from sfumato.core.condition import NOTHING, Condition
from sfumato.nets.pixelcnn import PixelCnn
from sfumato.nets.transformer import CausalTransformer

SIZE, GRID, ABOVE = 5, (3, 4), ((7, (2, 2)), (3, (1, 2)))
NETS = {
    "transformer": lambda **k: CausalTransformer(SIZE, k.pop("grid", GRID), width=32, depth=2, **k),
    "pixelcnn": lambda **k: PixelCnn(SIZE, k.pop("grid", GRID), width=32, depth=4, attend=2, **k),
    "pixelcnn, far": lambda **k: PixelCnn(
        SIZE, k.pop("grid", GRID), width=16, depth=2, reach=5, attend=0, **k
    ),
}


def stirred(net, seed=0):
    """Weights large enough to matter, none of them zero."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.15 * torch.randn(p.shape, generator=g))
    return net.eval()


def codes_for(net, rows=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    mine = torch.randint(SIZE, (rows, net.length), generator=g)
    sizes = [size for size, space in ABOVE for _ in range(torch.Size(space).numel())]
    above = torch.stack([torch.randint(s, (rows,), generator=g) for s in sizes], 1)
    return mine, above[:, : net.known]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("above", [(), ABOVE], ids=["first level", "given levels"])
def test_no_output_depends_on_its_own_code_or_later_ones(name, above):
    """By autograd: d logits_i / d code_j = 0 exactly for j >= i, and for some j < i it is not."""
    net = stirred(NETS[name](above=above))
    codes, known = codes_for(net)
    embedded = torch.nn.functional.one_hot(codes, SIZE).float().requires_grad_()

    class Soft(torch.nn.Module):
        weight, embedding_dim = net.code.weight, net.code.embedding_dim

        def forward(self, at):
            count = at[0].numel()  # a transformer embeds all codes but the last
            return (embedded[:, :count] @ self.weight).reshape(*at.shape, -1)

    net.code = Soft()
    logits = net(codes, known)
    reached = torch.zeros(net.length, net.length)
    for i in range(net.length):
        (grad,) = torch.autograd.grad(
            logits[:, i].square().sum(), embedded, retain_graph=True, allow_unused=True
        )
        reached[i] = grad.abs().sum((0, 2)) if grad is not None else 0.0
    assert torch.equal(reached, reached.tril(-1))
    assert (reached.tril(-1) > 0)[1:].any(1).all()
    if "transformer" in name or "far" in name:
        assert (reached.tril(-1) > 0).sum() == net.length * (net.length - 1) // 2  # nothing is out of sight


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("above", [(), ABOVE], ids=["first level", "given levels"])
def test_walking_gives_the_logits_of_the_whole(name, above):
    net = stirred(NETS[name](above=above, classes=3))
    codes, known = codes_for(net)
    cond = Condition(label=torch.tensor([0, 2, 1]))
    with torch.inference_mode():
        whole, advance = net(codes, known, cond), net.walk(known, cond)
        walked = torch.stack([advance(codes[:, i - 1] if i else None) for i in range(net.length)], 1)
    torch.testing.assert_close(walked, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("grid", [(6,), (1, 5), (5, 1), (2, 3)])
def test_lines_and_narrow_grids_are_read_too(name, grid):
    net = stirred(NETS[name](grid=grid))
    codes, known = codes_for(net, 2)
    advance = net.walk(known)
    with torch.inference_mode():
        walked = torch.stack([advance(codes[:, i - 1] if i else None) for i in range(net.length)], 1)
        torch.testing.assert_close(walked, net(codes, known), rtol=1e-4, atol=1e-5)


def test_volumes_are_for_the_transformer():
    net = stirred(NETS["transformer"](grid=(2, 2, 2)))
    assert net(*codes_for(net)).shape == (3, 8, SIZE)
    with pytest.raises(ValueError, match="CausalTransformer"):
        NETS["pixelcnn"](grid=(2, 2, 2))


@pytest.mark.parametrize("name", NETS)
def test_a_fresh_network_says_uniform(name):
    net = NETS[name]().eval()
    codes, known = codes_for(net)
    assert torch.equal(net(codes, known), torch.zeros(3, net.length, SIZE))


@pytest.mark.parametrize("name", NETS)
def test_the_class_and_the_codes_above_reach_every_position(name):
    net = stirred(NETS[name](above=ABOVE, classes=2))
    codes, known = codes_for(net)
    base = net(codes, known, Condition(label=torch.tensor([0, 0, 0])))
    other = net(codes, known, Condition(label=torch.tensor([1, 1, 1])))
    assert ((base - other).abs().amax(-1) > 1e-6).all()
    moved = net(
        codes, (known + 1) % torch.tensor([7] * 4 + [3] * 2), Condition(label=torch.tensor([0, 0, 0]))
    )
    assert ((base - moved).abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("name", NETS)
def test_a_dropped_class_is_the_unconditional_network(name):
    net = stirred(NETS[name](classes=2))
    codes, known = codes_for(net)
    told = Condition(label=torch.tensor([0, 1, 1]))
    dropped = net(codes, known, told.drop(torch.tensor([True, False, True])))
    torch.testing.assert_close(dropped[0], net(codes, known, told)[0])
    torch.testing.assert_close(dropped[1], net(codes, known, NOTHING)[1])
