"""What only the settings may allow a connector, whatever a user's configuration says: addresses and folders."""

from dataclasses import dataclass
from pathlib import Path

from models.base import StrictModel
from models.errors import Denied
from runtime.settings import Settings

PRIVATE = "allow_private_addresses"
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Permits:
    """The allowances of one process.

    `file_roots` are the folders below which files may be read and written; None: everywhere but `closed`, the
    program's own folder with its secrets and data.
    """

    private_addresses: bool = False
    file_roots: tuple[Path, ...] | None = None
    closed: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "Permits":
        """What the settings allow."""
        home = settings.home.resolve()
        own = tuple(home / name for name in ("secrets", "postgres", "artifacts", "logs", "ray", "spill"))
        return cls(settings.allow_private_addresses, settings.file_roots, own)

    def applied(self, config: StrictModel) -> StrictModel:
        """The configuration with the allowances in it; raises `Denied` for a folder that is not open to pipelines."""
        fields = type(config).model_fields
        root = getattr(config, ROOT, None)
        if isinstance(root, str | Path) and "://" not in str(root):
            self._check(Path(root).resolve())
        if PRIVATE not in fields:
            return config
        return config.model_copy(update={PRIVATE: self.private_addresses})

    def _check(self, root: Path) -> None:
        roots = self.file_roots
        if roots is not None and not any(root.is_relative_to(one.resolve()) for one in roots):
            raise Denied(
                f"{root} is not open to pipelines",
                hint="an operator opens folders with WEDSYNC_FILE_ROOTS",
                path="connection_config.root",
            )
        if any(root.is_relative_to(one) or one.is_relative_to(root) for one in self.closed):
            raise Denied(
                f"{root} holds the program's own files",
                hint="keep data in a folder of its own",
                path="connection_config.root",
            )
