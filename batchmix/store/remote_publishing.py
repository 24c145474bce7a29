"""Publishes whole runs in object storage: one object, `manifest.json`, names the parts of the latest one.

    latest/manifest.json                                        replaced in one step, on condition that nobody else did
    latest/versions/1f3a9c02b4d5e6f7/data/part-00000-….parquet  the parts of one run, each under a name of its own

A version is complete before the manifest names it, and the one before stays, for whoever still reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re

import msgspec

from batchmix.errors import JobError, ObjectMissing, ObjectsUnreachable, RunError
from batchmix.formats.text import json_file
from batchmix.remote.objects import ANY, ObjectChanged, Objects
from batchmix.remote.stubs import fetch_if_stub
from batchmix.store.manifest import Manifest, decoded_manifest, manifest_of
from batchmix.store.parts import part_path
from batchmix.store.publishing import check_replacement, own_name
from batchmix.store.view import View

_MANIFEST = "manifest.json"
_PART = re.compile(r"versions/([0-9a-f]{16})/data/part-[0-9]{5,}-[0-9a-f]{8}\.parquet")


def check_remote_target(url: str, job: str, *, rehearsal: bool) -> None:
    """Raise `JobError` if a run of a job can't be published at a URL, or if that can't be read."""
    try:
        check_replacement(_published(Objects(url))[0], url, job, rehearsal=rehearsal)
    except ObjectsUnreachable as error:
        raise JobError(f"output.publish: {error}; check the URL, the network, and the credentials") from error


def publish_remotely(view: View, url: str) -> bool:
    """Make a whole run the published one, and return whether it is: not if the one there is of a later night.

    After a kill it can be repeated. Raises as `check_remote_target` does, and `ObjectsUnreachable`.
    """
    objects = Objects(url)
    while True:
        current, etag = _published(objects)
        check_replacement(current, url, view.run.name, rehearsal=view.run.rehearsal)
        manifest = manifest_of(view)
        if current and current.night and manifest.night and current.night > manifest.night:
            return False
        names = [own_name(part.file, part.digest) for part in manifest.parts]
        version = hashlib.sha256(msgspec.json.encode((manifest.run, names))).hexdigest()[:16]
        parts = [
            msgspec.structs.replace(part, file=f"versions/{version}/{name}")
            for part, name in zip(manifest.parts, names, strict=True)
        ]
        manifest = msgspec.structs.replace(manifest, parts=parts)
        if current == manifest:
            return True
        _upload(objects, view, manifest)
        try:
            objects.put(_MANIFEST, json_file(msgspec.to_builtins(manifest)), etag)
        except ObjectChanged:  # another run was published meanwhile, perhaps of a later night
            continue
        _delete_others(objects, {version, _version(current)})
        return True


def _published(objects: Objects) -> tuple[Manifest | None, str | None]:
    """Return the manifest that is published at a URL, and its ETag. Raises `JobError` if batchmix did not write it."""
    try:
        data, etag = objects.get(_MANIFEST)
        return decoded_manifest(data), etag
    except ObjectMissing:
        return None, None
    except RunError as error:
        raise JobError(
            f"output.publish: {objects.url}/{_MANIFEST} is there, and batchmix did not write it; choose another URL"
        ) from error


def _upload(objects: Objects, view: View, manifest: Manifest) -> None:
    there = {each.key: each.size for each in objects.found("versions/")}
    for index, listed in zip(sorted(view.parts), manifest.parts, strict=True):
        if there.get(listed.file) != listed.bytes:
            part = part_path(view.layout.data, index)
            fetch_if_stub(part)
            objects.upload(listed.file, part, ANY)


def _version(manifest: Manifest | None) -> str:
    names = [part.file for part in manifest.parts] if manifest else []
    match = _PART.fullmatch(names[0]) if names else None
    return match[1] if match else ""


def _delete_others(objects: Objects, kept: set[str]) -> None:
    """Delete older versions. Nothing depends on it, so that it may fail."""
    with contextlib.suppress(ObjectsUnreachable):
        keys = [each.key for each in objects.found("versions/")]
        objects.delete([key for key in keys if (match := _PART.fullmatch(key)) and match[1] not in kept])
