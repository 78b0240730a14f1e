"""`tunegate audit`: the arguments of what is asked about past runs; each command imports the work that it does."""

from pathlib import Path
from typing import Annotated

import typer

audit = typer.Typer(
    no_args_is_help=True,
    help="Ask about past runs, from git and DVC alone.\n\nExample: [bold]tunegate audit list[/bold]",
)

RunId = Annotated[str | None, typer.Argument(help="A run's id or the beginning of it; the newest run when left out.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id or the beginning of it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@audit.command("list")
def audit_list(  # noqa: PLR0913  typer's signature
    *,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="How it ended; may be repeated.")
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option("--verdict", metavar="VERDICT", help="What its gate said: passed, refused, …"),
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="DATE", help="Started then or later, in UTC.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Started on that day or before.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIGEST", help="The beginning of the digest of its data.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="TEXT", help="Part of its base model's name, or of its digest."),
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", metavar="NAME", help="Of that variant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List all runs, the refused, the skipped, the invalid and the crashed ones too, the newest first.

    Example: [bold]tunegate audit list[/bold];
    [bold]tunegate audit list --status passed --since 2026-11-01 --until 2026-11-30[/bold]
    Exit codes: 0, also where no run is like that; 2 the input is wrong.
    """
    from flows.audit_list import list_command  # noqa: PLC0415
    from flows.run_filter import run_filter  # noqa: PLC0415

    wanted = run_filter(status or (), verdict, since, until, data=data, base=base, variant=variant)
    list_command(Path.cwd(), wanted, as_json=as_json)


@audit.command("show")
def audit_show(
    run_id: RunId = None, *, as_json: Annotated[bool, typer.Option("--json", help="Print the record itself.")] = False
) -> None:
    """Show one run: its verdict, scores, stages, digests and release.

    Example: [bold]tunegate audit show[/bold]; [bold]tunegate audit show 20261123 --json[/bold]
    """
    from flows.audit_commands import show_command  # noqa: PLC0415

    show_command(Path.cwd(), run_id, as_json=as_json)


@audit.command("diff")
def audit_diff(run_a: Run, run_b: Run, *, as_json: AsJson = False) -> None:
    """Compare two runs: code, parameters, data, environment, scores with intervals; what is the same is said too.

    Example: [bold]tunegate audit diff 20261120 20261123[/bold]; row by row: [bold]tunegate data diff[/bold]
    """
    from flows.audit_commands import diff_command  # noqa: PLC0415

    diff_command(Path.cwd(), run_a, run_b, as_json=as_json)


@audit.command("trained-on")
def audit_trained_on(
    row: Annotated[str, typer.Argument(metavar="ID|TEXT", help="A row's id, its beginning, or words of its text.")],
    *,
    is_text: Annotated[bool, typer.Option("--text", help="Take it for words, also where it looks like an id.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get what the DVC cache has lost from DVC's remote.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell which runs and releases saw a row, in which partition, or what dropped it; for deletion requests.

    Example: [bold]tunegate audit trained-on 3f9c0d[/bold]; [bold]tunegate audit trained-on "jane@example.org"[/bold]
    Exit codes: 0 every run with data was asked; 4 some could not be read, and are named; 2 the input is wrong.
    """
    from flows.trained_on_commands import trained_on_command  # noqa: PLC0415

    raise typer.Exit(trained_on_command(Path.cwd(), row, is_text=is_text, fetch=fetch, as_json=as_json))


@audit.command("verify")
def audit_verify(
    wanted: Annotated[
        str | None,
        typer.Argument(metavar="[RELEASE|RUN]", help="A version, or a run's id; all releases when left out."),
    ] = None,
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="The public key that it must be signed by; else that of its commit."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All runs, releases and tags, and the chain of the records.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hash again what was released or made, and hold it against record, verdict, approvals, signature; no network.

    Of a run without a release: its outputs in DVC's cache, its approvals, and its verdict computed again.

    Example: [bold]tunegate audit verify[/bold]; [bold]tunegate audit verify v0.0.3 --key release.pub[/bold];
    [bold]tunegate audit verify --all[/bold]
    Exit codes: 0 everything agrees; 2 the input is wrong; 3 something differs, is missing or is extra: it is named.
    """
    from flows.verify_commands import verify_command  # noqa: PLC0415

    raise typer.Exit(verify_command(Path.cwd(), wanted, key, every=every, as_json=as_json))


@audit.command("lineage")
def audit_lineage(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="A version, as v0.0.3, or a run's id.")],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the picture here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw where a release comes from and where it went, from the sources to production, as Mermaid text.

    Example: [bold]tunegate audit lineage v0.0.3[/bold]; [bold]tunegate audit lineage v0.0.3 --json[/bold]
    """
    from flows.audit_commands import lineage_command  # noqa: PLC0415

    lineage_command(Path.cwd(), release, output, as_json=as_json)


@audit.command("export")
def audit_export(
    run_id: Run,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the zip here.")] = None,
) -> None:
    """Put a run into a zip that anybody can check by [bold]sha256sum --check[/bold], with a README inside.

    Example: [bold]tunegate audit export 20261123[/bold]; [bold]tunegate audit export 20261123 -o run.zip[/bold]
    """
    from flows.audit_commands import export_command  # noqa: PLC0415

    export_command(Path.cwd(), run_id, output)
