"""The GraphQL operations that the client sends."""

from typing import Final

from api.client.transport import FAILURE

_SUMMARY: Final = """
id executionId executionType status state startedAt completedAt dryRun dataQualityScore
recordsProcessed recordsInserted recordsUpdated recordsDeleted recordsFailed
pipeline { pipelineName } errorDetails { errorType errorMessage failedStep hint path }
lateAt waitingFor { reason name limit running }
"""
_ACCEPTED: Final = "id executionId executionType status state startedAt dryRun"
_STEPS: Final = """
steps { stepName status state recordsIn recordsOut processingTimeMs errorMessage retryCount }
"""
_BACKFILL: Final = """
id chunk rangeStart rangeEnd mostAtOnce priority total already state createdAt finishedAt
pipeline { pipelineName } progress { waiting running completed failed cancelled percent }
"""
_CHANGES: Final = "changes { kind path old new }"
_SOURCE: Final = "id name: sourceName kind isActive schemaConfig monitoringConfig rateLimitConfig"
_DESTINATION: Final = """
id name: destinationName kind isActive schemaConfig writeMode partitionConfig indexingConfig backupConfig
"""

PIPELINES: Final = """
query ($first: Int!, $after: String) {
  pipelines(first: $first, after: $after) {
    nodes { pipelineName } pageInfo { hasNextPage endCursor }
  }
}
"""
DEFINITION: Final = "query ($name: String!) { pipeline(reference: $name) { definition } }"
PLAN: Final = """
query ($name: String!) { pipeline(reference: $name) { plan { text fingerprint notes steps { name type sql } } } }
"""
COMPILE: Final = f"""
mutation ($definition: JSON!) {{
  validatePipeline(definition: $definition) {{
    __typename ... on Plan {{ text fingerprint notes steps {{ name type sql }} }} {FAILURE}
  }}
}}
"""
APPLY: Final = f"""
mutation ($definition: JSON!, $dryRun: Boolean!) {{
  applyPipeline(definition: $definition, dryRun: $dryRun) {{
    __typename ... on AppliedPipeline {{ action {_CHANGES} plan {{ notes }} }} {FAILURE}
  }}
}}
"""
EXECUTE: Final = f"""
mutation ($id: ID!, $input: ExecutePipelineInput) {{
  executePipeline(id: $id, input: $input) {{ __typename ... on Execution {{ {_ACCEPTED} }} {FAILURE} }}
}}
"""
CANCEL: Final = f"""
mutation ($id: ID!) {{ cancelExecution(id: $id) {{ __typename ... on Execution {{ {_SUMMARY} {_STEPS} }} {FAILURE} }} }}
"""
RETRY: Final = f"""
mutation ($id: ID!, $key: String) {{
  retryExecution(id: $id, idempotencyKey: $key) {{ __typename ... on Execution {{ {_SUMMARY} {_STEPS} }} {FAILURE} }}
}}
"""
RERUN: Final = f"""
mutation ($id: ID!, $step: String!, $key: String) {{
  rerunExecution(id: $id, fromStep: $step, idempotencyKey: $key) {{
    __typename ... on Execution {{ {_SUMMARY} {_STEPS} }} {FAILURE}
  }}
}}
"""
RERUN_PREVIEW: Final = """
query ($id: ID!, $step: String) {
  rerunPreview(id: $id, fromStep: $step) { executionId version steps { stepName fate reason } }
}
"""
EXECUTION: Final = f"query ($id: String!) {{ execution(reference: $id) {{ {_SUMMARY} {_STEPS} }} }}"
EXECUTIONS: Final = f"""
query ($first: Int!, $pipeline: String) {{
  executions(first: $first, pipeline: $pipeline) {{ nodes {{ {_SUMMARY} }} }}
}}
"""
EVENTS: Final = """
subscription ($id: ID!, $after: String) {
  executionEvents(executionId: $id, after: $after) { cursor seq kind stepName recordedAt payload }
}
"""
LOGS: Final = "query ($id: String!, $after: Long!) { executionLogs(reference: $id, after: $after) { lines cursor } }"

SOURCE: Final = f"query ($name: String!) {{ source(reference: $name) {{ {_SOURCE} }} }}"
CREATE_SOURCE: Final = f"""
mutation ($input: CreateSourceInput!) {{ createSource(input: $input) {{ __typename ... on Node {{ id }} {FAILURE} }} }}
"""
UPDATE_SOURCE: Final = f"""
mutation ($id: ID!, $input: UpdateSourceInput!) {{
  updateSource(id: $id, input: $input) {{ __typename ... on Node {{ id }} {FAILURE} }}
}}
"""
DISCOVER_SOURCE: Final = f"""
mutation ($id: ID!) {{
  discoverSource(id: $id) {{ __typename ... on Source {{ datasets {{ name }} }} {FAILURE} }}
}}
"""
DESTINATION: Final = f"query ($name: String!) {{ destination(reference: $name) {{ {_DESTINATION} }} }}"
CREATE_DESTINATION: Final = f"""
mutation ($input: CreateDestinationInput!) {{
  createDestination(input: $input) {{ __typename ... on Node {{ id }} {FAILURE} }}
}}
"""
VERSIONS: Final = """
query ($id: ID!, $table: String!) {
  destinationVersions(id: $id, table: $table) { version rows replacedAt replacedBy expiresAt }
}
"""
RESTORE: Final = f"""
mutation ($id: ID!, $table: String!, $version: String!) {{
  restoreDestination(id: $id, table: $table, version: $version) {{
    __typename ... on RestoredTable {{ table version rows }} {FAILURE}
  }}
}}
"""
POOLS: Final = "{ concurrencyPools { name slots running } }"
SET_POOL: Final = f"""
mutation ($name: String!, $slots: Int!) {{
  setConcurrencyPool(name: $name, slots: $slots) {{
    __typename ... on ConcurrencyPool {{ name slots running }} {FAILURE}
  }}
}}
"""
REMOVE_POOL: Final = f"""
mutation ($name: String!) {{
  removeConcurrencyPool(name: $name) {{ __typename ... on ConcurrencyPool {{ name slots running }} {FAILURE} }}
}}
"""
UPDATE_DESTINATION: Final = f"""
mutation ($id: ID!, $input: UpdateDestinationInput!) {{
  updateDestination(id: $id, input: $input) {{ __typename ... on Node {{ id }} {FAILURE} }}
}}
"""
REQUEST_BACKFILL: Final = f"""
mutation ($pipeline: ID!, $input: BackfillInput!) {{
  requestBackfill(pipeline: $pipeline, input: $input) {{ __typename ... on Backfill {{ {_BACKFILL} }} {FAILURE} }}
}}
"""
PREVIEW_BACKFILL: Final = """
query ($pipeline: ID!, $input: BackfillInput!, $first: Int!) {
  backfillPreview(pipeline: $pipeline, input: $input, first: $first) {
    total already chunks { start end willRun state }
  }
}
"""
BACKFILL: Final = f"query ($id: ID!) {{ backfill(id: $id) {{ {_BACKFILL} }} }}"
BACKFILLS: Final = f"""
query ($pipeline: String!, $first: Int!) {{
  pipeline(reference: $pipeline) {{ backfills(first: $first) {{ nodes {{ {_BACKFILL} }} }} }}
}}
"""
BACKFILL_PROGRESS: Final = f"subscription ($id: ID!) {{ backfillProgress(id: $id) {{ {_BACKFILL} }} }}"
PAUSE_BACKFILL: Final = f"""
mutation ($id: ID!) {{ pauseBackfill(id: $id) {{ __typename ... on Backfill {{ {_BACKFILL} }} {FAILURE} }} }}
"""
RESUME_BACKFILL: Final = f"""
mutation ($id: ID!) {{ resumeBackfill(id: $id) {{ __typename ... on Backfill {{ {_BACKFILL} }} {FAILURE} }} }}
"""
CANCEL_BACKFILL: Final = f"""
mutation ($id: ID!) {{ cancelBackfill(id: $id) {{ __typename ... on Backfill {{ {_BACKFILL} }} {FAILURE} }} }}
"""
_SCHEDULE: Final = "id pipelineName config isPaused nextFireAt lastFireAt problem"
SCHEDULES: Final = f"""
query ($first: Int!, $after: String) {{
  schedules(first: $first, after: $after) {{ nodes {{ {_SCHEDULE} }} pageInfo {{ hasNextPage endCursor }} }}
}}
"""
NEXT_RUNS: Final = """
query ($name: String!, $first: Int!) { pipeline(reference: $name) { schedule { nextRuns(first: $first) } } }
"""
FIRES: Final = """
query ($name: String!, $first: Int!) {
  pipeline(reference: $name) {
    schedule { fires(first: $first) { pipelineName fireTime outcome reason decidedAt execution { executionId } } }
  }
}
"""
FOLLOW_FIRES: Final = """
subscription ($pipeline: ID, $outcomes: [FireOutcome!], $after: String) {
  scheduleFires(pipeline: $pipeline, outcomes: $outcomes, after: $after) {
    cursor pipelineName fireTime outcome reason decidedAt execution { executionId }
  }
}
"""
PAUSE_SCHEDULE: Final = f"""
mutation ($id: ID!) {{ pauseSchedule(id: $id) {{ __typename ... on Schedule {{ {_SCHEDULE} }} {FAILURE} }} }}
"""
RESUME_SCHEDULE: Final = f"""
mutation ($id: ID!) {{ resumeSchedule(id: $id) {{ __typename ... on Schedule {{ {_SCHEDULE} }} {FAILURE} }} }}
"""
ISSUE_WEBHOOK_SECRET: Final = f"""
mutation ($id: ID!) {{
  issueWebhookSecret(id: $id) {{ __typename ... on WebhookSecret {{ address secret }} {FAILURE} }}
}}
"""
