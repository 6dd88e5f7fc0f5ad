"""Where a server is and how it knows us: address, key, and the headers that carry it.

The key is read from the environment or a file and appears nowhere else: not in `repr`, not in an error. It goes to the
address of its endpoint only, and a provider's own variable is read for another's address only where it is named.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httpx
from pydantic import SecretStr

from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint


class Provider(NamedTuple):
    """Whose server is asked where no address is given, and the variable that people keep his key in."""

    base_url: str
    key_env: str

    def owns(self, host: str) -> bool:
        """Whether a host is his, or that of one of his regions, which stand before the name."""
        own = urlsplit(self.base_url).hostname or ""
        return host == own or host.endswith(f".{own}")


OPENAI = Provider("https://api.openai.com/v1", "OPENAI_API_KEY")
NVIDIA = Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY")
_AZURE_KEY = "AZURE_OPENAI_API_KEY"
_AZURE_HOSTS = (".azure.com", ".azure.us", ".azure.cn")
_PROVIDERS_KEYS = {OPENAI.key_env, NVIDIA.key_env, _AZURE_KEY}
_MOST_KEY_CHARACTERS = 10_000
_ONLY_THE_KEY = "it holds the key and nothing else"


def _is_near(host: str) -> bool:
    """Whether a host is this machine or one of the own network, by its name or number."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost", ".home.arpa"))


class Address:
    """One server's address: the endpoint's, or else the provider's. `environ` is where keys are."""

    def __init__(self, endpoint: Endpoint, provider: Provider, environ: Mapping[str, str]) -> None:
        self.base_url = (endpoint.base_url or provider.base_url).rstrip("/")
        self._provider = provider
        self.endpoint = endpoint
        self.key: SecretStr | None = None
        self._environ = environ

    def __repr__(self) -> str:
        return f"Address({self.base_url!r}, key from {self.key_place or 'nowhere'})"

    @property
    def key_place(self) -> str:
        """Where the key is said to be; empty where nowhere."""
        return self.endpoint.api_key_file or self._key_env

    @property
    def _key_env(self) -> str:
        """The variable that was named; else the provider's own, which is for his own address alone; empty for none."""
        if self.endpoint.api_key_env is not None:
            return self.endpoint.api_key_env
        if self.endpoint.style == "azure":
            return _AZURE_KEY if self._host.endswith(_AZURE_HOSTS) else ""
        return self._provider.key_env if self._provider.owns(self._host) else ""

    @property
    def _host(self) -> str:
        try:
            return (urlsplit(self.base_url).hostname or "").lower()
        except ValueError:  # `check` says what is wrong with such an address
            return ""

    @property
    def secret(self) -> str | None:
        """The key itself, for removing it from texts."""
        return self.key.get_secret_value() if self.key else None

    def check(self) -> None:
        """Read the key, and see that address and key can be used.

        Raises:
            TeacherError: no key for a provider's own address, a key no header can carry, or no http(s) address.
        """
        if self.endpoint.style == "azure" and self.endpoint.base_url is None:
            raise TeacherError('style = "azure" needs a base_url, as https://NAME.openai.azure.com')
        self.key = self._read_key()
        try:
            address = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            shown = self.base_url.rpartition("@")[2]  # what stands before may be a password
            raise TeacherError(f"{shown!r} is no address of a server: base_url looks like {OPENAI.base_url}")
        if address.port is not None and not 0 < address.port < 2**16:
            raise TeacherError(
                f"{address.host}: there is no port {address.port}; base_url looks like {OPENAI.base_url}"
            )
        if address.userinfo or address.query:
            raise TeacherError(
                f"the base_url for {address.host} must not carry a name, password or query: "
                f"put the key into the environment variable {self._key_env or 'that api_key_env names'}"
            )
        self._refuse_in_clear(address)

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        if self.key is None:
            return {}
        key = self.key.get_secret_value()
        return {"api-key": key} if self.endpoint.style == "azure" else {"Authorization": f"Bearer {key}"}

    def chat_url(self, model: str) -> str:
        """Where chat completions of `model` are asked for."""
        if self.endpoint.style == "azure":
            version = quote(self.endpoint.azure_api_version, safe="")
            return f"{self.base_url}/openai/deployments/{quote(model, safe='')}/chat/completions?api-version={version}"
        return f"{self.base_url}/chat/completions"

    def wants_budget(self) -> bool:
        """Whether asking may cost money: a provider's own address, Azure, or a key for a host elsewhere."""
        if self.endpoint.base_url is None or self.endpoint.style == "azure":
            return True
        if OPENAI.owns(self._host):
            return True
        has_key = self.endpoint.api_key_file is not None or bool(self._environ.get(self._key_env, "").strip())
        return has_key and not _is_near(self._host)

    def key_sentence(self, status: int) -> str:
        """What to do about a 401 or 403."""
        place, server = self.key_place, self.base_url
        if not place:
            return f"{server} asks for a key ({status}): name with api_key_env the environment variable that holds it"
        if self.key is None:
            return f"{server} asks for a key ({status}): set the environment variable {place}"
        return f"{server} refused the key in {place} ({status}): check that it is the key of this server"

    @property
    def account(self) -> str:
        """Whose account is asked with, in words."""
        return f"the account behind the key in {self.key_place}" if self.key_place else "the account"

    def _read_key(self) -> SecretStr | None:
        if self.endpoint.api_key_file is not None:
            return self._checked(self._from_file(Path(self.endpoint.api_key_file)), "file")
        name = self._key_env
        key = self._environ.get(name, "").strip()
        if not key and self.endpoint.base_url is None:
            variable = f"set the environment variable {name}" if name else "name its variable with api_key_env"
            raise TeacherError(f"{self.base_url} needs a key: {variable}, or name your own server as base_url")
        return self._checked(key, "environment variable") if key else None

    def _refuse_in_clear(self, address: httpx.URL) -> None:
        """The key in a provider's own variable does not cross the internet unencrypted."""
        name = self._key_env
        named = self.key is not None and self.endpoint.api_key_file is None and name in _PROVIDERS_KEYS
        if named and address.scheme == "http" and not _is_near(address.host):
            raise TeacherError(
                f"the key in {name} would go to {self.base_url} in clear text: use https, or put that server's own key "
                "into another variable and name it as api_key_env"
            )

    def _from_file(self, path: Path) -> str:
        try:
            key = path.expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise TeacherError(f"the key file {path} cannot be read ({why}); {_ONLY_THE_KEY}") from None
        if not key:
            raise TeacherError(f"the key file {path} is empty; {_ONLY_THE_KEY}")
        return key

    def _checked(self, key: str, what: str) -> SecretStr:
        if not (key.isascii() and key.isprintable()) or " " in key or len(key) > _MOST_KEY_CHARACTERS:
            again = "set it again" if what == "environment variable" else _ONLY_THE_KEY
            raise TeacherError(f"the {what} {self.key_place} holds characters that no key has; {again}")
        return SecretStr(key)
