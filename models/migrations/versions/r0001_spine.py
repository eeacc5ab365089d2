"""The tables of WS-269 and those the spine adds, with their functions and row-level security."""

from models.migrations.script import run_script

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

SCRIPTS = (
    "auth",
    "pipelines",
    "executions",
    "places",
    "quality",
    "outputs",
    "work",
    "events",
    "audit",
    "protection",
    "policies",
)


def upgrade() -> None:
    """Run the scripts of this revision."""
    for name in SCRIPTS:
        run_script(f"{name}.sql")
