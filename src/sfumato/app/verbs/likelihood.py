"""`sfumato likelihood RUN FILES`: bits per dimension of images, and how unusual the model finds them."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import Device, Guidance, Json, RunPath

NAME = "likelihood"


def command(
    run: RunPath,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="Pictures, folders or arrays; default: held-out images."),
    ] = None,
    bound: Annotated[
        str | None,
        typer.Option(
            "--bound", help="ode, vlb or elbo; default: vlb for diffusion (floats: ode), elbo for a VAE."
        ),
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="The class of all images, where the model wants one.")
    ] = None,
    against: Annotated[
        int, typer.Option("--against", min=0, help="Held-out images to rank each image among.")
    ] = 100,
    draws: Annotated[
        int | None,
        typer.Option("--draws", min=1, help="Draws an image: more, less chance (elbo: a tighter bound)."),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", help="Of the ODE solver; default 1e-4.")
    ] = None,
    guidance: Guidance = None,
    uniform: Annotated[
        bool | None,
        typer.Option(
            "--uniform/--no-uniform",
            help="Dequantise the ODE's grey levels uniformly, or by the model's last noise; default: the "
            "tighter one on a few images that are not scored.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="An image's noise is a function of SEED and its content alone.")
    ] = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Bits/dim of each image by a named bound, and its rank among held-out images."""
    from ..likelihood import likelihood
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    found = likelihood(
        opened,
        files or (),
        bound=bound,
        class_name=class_name,
        against=against,
        draws=draws,
        tolerance=tolerance,
        guidance=guidance,
        uniform=uniform,
        seed=seed,
    )
    console.answer(found.to_json(), found.lines())
    console.next(f"sfumato evaluate {run}")
