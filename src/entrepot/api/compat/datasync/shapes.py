"""Requests and answers of the datasync family. Fields that it does not know are ignored, as in the published one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from entrepot.control.datasyncs import Site

NAME = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Type = Literal["AOSSTOFS", "FSTOAOSS", "THIRDTOAOSS", "THIRDTOFS", "AOSSTOAOSS", "FSTOFS"]
State = Literal["SCANNING", "DOING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"]
Unit = Literal["EB", "PB", "TB", "GB", "MB", "KB", "B"]
ThirdType = Literal["OSS", "COS", "OBS", "BOS", "S3", "KS3", "QINIU", "WASB", "UFILE"]
TaskId = Annotated[str, Path(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="task_id, as it was answered")]

_PathName = Annotated[str, Path(max_length=63, pattern=NAME)]


def _no_surrogates(text: str) -> str:
    text.encode()
    return text


Text = Annotated[str, StringConstraints(max_length=255, pattern=_PRINTABLE), AfterValidator(_no_surrogates)]
Long = Annotated[str, StringConstraints(max_length=1024, pattern=_PRINTABLE), AfterValidator(_no_surrogates)]
Key = Annotated[str, StringConstraints(max_length=2048, pattern=_PRINTABLE), AfterValidator(_no_surrogates)]
TaskName = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=_PRINTABLE), AfterValidator(_no_surrogates)
]


def site(
    subscription_name: _PathName, resource_group_name: _PathName, zone: _PathName, data_sync_name: _PathName
) -> Site:
    """The tool resource that a path names."""
    return Site(subscription_name, resource_group_name, zone, data_sync_name)


Where = Annotated[Site, Depends(site)]


class Wanted(BaseModel):
    """Base of requests: exact types, other fields are ignored, null is as if it were left out."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True, allow_inf_nan=False)


class WantedEnd(Wanted):
    """A bucket and prefix, or a volume and path."""

    id: Text | None = Field(None, description="bucket, or id of a volume")
    region: Text | None = None
    prefix: Long | None = Field(None, description="below which prefix; empty: all of it")
    name: Text | None = Field(None, description="bucket, or name of a volume")
    endpoint: Long | None = Field(None, description="of the bucket; empty: the default connection")
    zone: Text | None = None


class WantedThird(Wanted):
    """A place at another cloud."""

    type: ThirdType
    host: Long | None = Field(None, description="as the vendor names it; for S3 and WASB it may be empty")
    ak: Key | None = Field(None, description="access key; for WASB the storage account")
    sk: Key | None = Field(None, description="secret key; it is never shown again")
    path: Long = Field(description="bucket/prefix")


class NewTask(Wanted):
    """A task to be made."""

    task_name: TaskName
    type: Type
    src_info: list[WantedEnd] | None = Field(None, max_length=100, description="the sources; none for THIRDTO…")
    dst_info: WantedEnd
    src_third_info: WantedThird | None = Field(None, description="the source of THIRDTO…")
    options: dict[str, Any] | None = Field(None, description="options of a sync, as in the native API")


class WantedPage(Wanted):
    """Which page."""

    page: int | None = Field(None, ge=0, le=1_000_000_000, description="from 1; 0 is the first page, too")
    page_size: int | None = Field(None, ge=1, le=1000, description="default 10")


class ListTasks(Wanted):
    """Which tasks."""

    page: WantedPage | None = None
    history: bool | None = Field(None, description="true: ended tasks; false: live ones; left out: all")
    task_name: Text | None = Field(None, description="a part of the name, capital or small")
    type: Type | None = None
    state: list[State] | None = Field(None, max_length=100)


class WantedTool(Wanted):
    """What is said about a tool."""

    display_name: Text | None = None
    description: Long | None = None
    tags: dict[Text, Text] | None = Field(None, max_length=50)
    properties: WantedProperties | None = None


class WantedProperties(Wanted):
    """How a tool works."""

    connection: Text | None = Field(None, description="the connection that buckets without endpoint are in")


class End(BaseModel):
    """A bucket and prefix, or a volume and path."""

    id: str
    region: str
    prefix: str
    name: str
    endpoint: str
    zone: str


class Third(BaseModel):
    """A place at another cloud; ``ak`` is masked and ``sk`` empty."""

    type: ThirdType
    host: str
    ak: str
    sk: Literal[""]
    path: str


class Task(BaseModel):
    """A task."""

    task_id: str
    task_name: str
    uid: str = Field(description="uid of the tool resource")
    user_id: str
    tenant_id: str
    type: Type
    state: State
    src_info: list[End]
    dst_info: End
    size_unit: Unit
    size: float
    start: int = Field(description="Unix seconds; 0: not yet")
    end: int = Field(description="Unix seconds; 0: not yet")
    percent: int = Field(ge=0, le=100)
    rate: str
    time_cost: str
    create: int
    src_third_info: Third | None = Field(None, description="only of THIRDTO…")
    err_msg: str
    total_num: int
    complete_num: int
    exist_num: int = Field(description="entries found equal and left alone")


class Page(BaseModel):
    """Which page, and how many tasks there are."""

    page: int
    page_size: int
    total: int


class Tasks(BaseModel):
    """One page of tasks, newest first."""

    data_sync_task: list[Task]
    page: Page


class Failure(BaseModel):
    """An entry that could not be done."""

    model_config = ConfigDict(populate_by_name=True)

    key: str
    failure: str = Field(alias="class")
    message: str
    attempts: int
    size: int


class Failures(BaseModel):
    """One page of them, latest first."""

    failures: list[Failure]
    next_page_token: str


class Tool(BaseModel):
    """A tool resource."""

    id: str
    name: str
    display_name: str
    description: str
    uid: str
    resource_type: str
    creator_id: str
    owner_id: str
    tenant_id: str
    zone: str
    state: Literal["ACTIVE"]
    tags: dict[str, str]
    properties: dict[str, Any]
    deleted: bool
    create_time: int
    update_time: int


class Nothing(BaseModel):
    """An empty object."""


WantedTool.model_rebuild()
