"""A document that comes again is taken as it is, but only by roles that were found to be permitted it."""

from graphql import parse

from graphql_schema.documents import LONGEST, MOST, KnownDocuments
from models.access import Role
from tests.kit.graphql import Api, token
from tests.kit.identities import ANALYST, ENGINEER

PREVIEW = 'mutation { previewPipeline(input: {id: "nothing"}) { __typename } }'


def test_a_document_is_known_for_the_roles_it_was_kept_for() -> None:
    known = KnownDocuments()
    document = parse("{me}")
    known.keep("{me}", document, Role.DATA_ENGINEER)
    assert known.document("{me}") is document
    assert known.may_run("{me}", Role.DATA_ENGINEER)
    assert not known.may_run("{me}", Role.DATA_ANALYST)
    assert not known.may_run("{me}", None)
    assert known.document(None) is None


def test_few_and_short_documents_are_kept() -> None:
    known = KnownDocuments()
    document = parse("{me}")
    known.keep("{me}" + " " * LONGEST, document, None)
    for number in range(MOST + 1):
        known.keep(f"{{me}} #{number}", document, None)
    assert known.document("{me}" + " " * LONGEST) is None
    assert known.document("{me} #0") is None
    assert known.document(f"{{me}} #{MOST}") is document


async def test_what_one_may_run_another_may_not(api: Api) -> None:
    for _ in range(2):
        assert (await api.ask(PREVIEW, by=ENGINEER))["__typename"] == "NotFoundError"
        assert (await api.ask(PREVIEW, by=ANALYST))["__typename"] == "DeniedError"
    for _ in range(2):
        assert (await api.ask("{pipelines{nodes{id}}}"))["nodes"] == []
        stranger = await api.refusal("{pipelines{nodes{id}}}", by=None)
        assert stranger["extensions"]["code"] == "unauthenticated"


async def test_an_invalid_document_stays_invalid(api: Api) -> None:
    for _ in range(2):
        assert "nothing" in (await api.refusal("{nothing}"))["message"]


async def test_of_several_operations_the_one_that_is_named_runs(api: Api) -> None:
    document = "query A { pipelines { totalCount } } query B { sources { totalCount } }"
    headers = {"authorization": f"Bearer {token(ENGINEER)}"}
    for _ in range(2):
        refusal = await api.refusal(document)
        assert (refusal["message"], refusal["extensions"]["hint"]) == (
            "the document holds several operations",
            "say which in operationName: A, B",
        )
        named = {"query": document, "operationName": "B"}
        answer = await api.http.post("/graphql", json=named, headers=headers)
        assert answer.json() == {"data": {"sources": {"totalCount": 0}}}


async def test_variables_are_weighed_each_time(api: Api) -> None:
    document = """query($n: Int!) { pipelines(first: $n) { nodes { executions(first: $n) { nodes { id } } } } }"""
    assert (await api.ask(document, {"n": 2}))["nodes"] == []
    heavy = await api.refusal(document, {"n": 100})
    assert heavy["extensions"]["code"] == "cost_limit"
