"""The contracts as their readers know them: from the files in `schemas/`, with the libraries that readers use."""

from __future__ import annotations

import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import jsonschema_rs
from fastavro.validation import ValidationError
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError
from grpc_tools import protoc

from worker import contracts
from worker.contracts.protobuf import file_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from worker.pipeline.messages import Headers

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
# Both are written under another name in the AsyncAPI document, which says nothing of a dead letter as a whole.
_ASYNCAPI = {"request": "request", "result": "result"}


def compiled(folder: Path, name: str) -> FileDescriptorSet:
    """What `protoc` makes of the Protobuf file of a contract."""
    with tempfile.TemporaryDirectory() as into:
        out = Path(into) / "set.pb"
        code = protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={out}", file_name(name)])
        assert code == 0, f"protoc refuses {file_name(name)}"
        return FileDescriptorSet.FromString(out.read_bytes())


def message_class(folder: Path, name: str) -> type[Message]:
    """The class of the messages of a contract, of the file that readers have."""
    pool = descriptor_pool.DescriptorPool()
    (file,) = compiled(folder, name).file
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{file.message_type[0].name}"))


def avro_schema(folder: Path, name: str) -> Any:
    return fastavro.parse_schema(json.loads((folder / f"{name}.avsc").read_text("utf-8")))


def avro_bytes(schema: Any, datum: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, datum)
    return stream.getvalue()


class Forms:
    """All forms of one contract."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._json = jsonschema_rs.Draft202012Validator(
            json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
        )
        self._avro = avro_schema(SCHEMAS, name)
        self._protobuf = message_class(SCHEMAS, name)
        document = json.loads((SCHEMAS / "asyncapi.json").read_text("utf-8"))
        schemas = document["components"]["schemas"]
        self._asyncapi = jsonschema_rs.Draft7Validator(schemas[_ASYNCAPI.get(name, "deadLetterHeaders")])

    def faults(self, document: dict[str, Any]) -> list[str]:
        """What is wrong with a document, by the name of the form that says so."""
        checks: dict[str, Callable[[dict[str, Any]], str | None]] = {
            "JSON Schema": lambda one: _complaint(self._json, one),
            "AsyncAPI": self._of_asyncapi,
            "Avro": self._of_avro,
            "Protobuf": self._of_protobuf,
        }
        said = {form: check(document) for form, check in checks.items()}
        return [f"{form}: {fault}" for form, fault in said.items() if fault is not None]

    def _of_asyncapi(self, document: dict[str, Any]) -> str | None:
        return _complaint(self._asyncapi, document if self.name in _ASYNCAPI else document.get("headers"))

    def _of_avro(self, document: dict[str, Any]) -> str | None:
        try:
            datum = contracts.to_avro(document, self.name)
            fastavro.validate(datum, self._avro, raise_errors=True)
            written = avro_bytes(self._avro, datum)
        except (ValidationError, ValueError, TypeError) as error:
            return str(error)
        read = contracts.from_avro(fastavro.schemaless_reader(io.BytesIO(written), self._avro), self.name)  # type: ignore[arg-type]
        return _difference(document, read)

    def _of_protobuf(self, document: dict[str, Any]) -> str | None:
        try:
            made = contracts.to_protobuf(document, self.name)
        except (ValueError, TypeError) as error:
            return str(error)
        try:
            read = self._protobuf.FromString(made.SerializeToString())
        except DecodeError as error:
            return str(error)
        return _difference(document, contracts.from_protobuf(read, self.name))


def message_validators(name: str) -> tuple[Any, Any]:
    """What the AsyncAPI document says of a message: validators of its payload and of its headers."""
    document = json.loads((SCHEMAS / "asyncapi.json").read_text("utf-8"))
    message = document["components"]["messages"][name]
    components = {"components": document["components"]}
    payload, headers = (jsonschema_rs.Draft7Validator(message[part] | components) for part in ("payload", "headers"))
    return payload, headers


@cache
def forms(name: str) -> Forms:
    return Forms(name)


def _complaint(validator: Any, document: Any) -> str | None:
    return None if validator.is_valid(document) else next(str(error) for error in validator.iter_errors(document))


def _difference(document: dict[str, Any], read: dict[str, Any]) -> str | None:
    return None if document == read else f"{read} is not what was written"


def written_down(key: bytes | None, value: bytes | None, headers: Headers) -> dict[str, Any]:
    """A dead letter as its contract writes one down."""
    import base64

    def encoded(one: bytes | None) -> str | None:
        return None if one is None else base64.b64encode(one).decode()

    named = {name: None if one is None else one.decode("utf-8", "replace") for name, one in headers}
    return {"key": encoded(key), "value": encoded(value), "headers": named}
