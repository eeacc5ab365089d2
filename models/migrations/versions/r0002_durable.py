"""Schedules, backfills, checkpoints and pools, with their row-level security."""

from models.migrations.script import run_script

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Run the scripts of this revision."""
    run_script("durable.sql")
    run_script("claiming.sql")
