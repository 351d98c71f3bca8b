import type { Core } from "../core.ts";
import type { Hook } from "../hooks/hook.ts";
import { isSigning } from "../hooks/sender.ts";

/** A hook as the API shows it: of its secrets only that they are there, and that since 19.0. */
export function hookEntity(core: Core, hook: Hook): Record<string, unknown> {
  const off = hook.disabledUntil;
  const home =
    "project" in hook.home ? { project_id: hook.home.project.id } : { group_id: hook.home.group.id };
  return {
    id: hook.id,
    url: hook.url,
    name: hook.name ?? null,
    description: hook.description ?? null,
    created_at: new Date(hook.createdAt).toISOString(),
    push_events: hook.pushEvents,
    tag_push_events: false,
    merge_requests_events: false,
    repository_update_events: false,
    enable_ssl_verification: hook.sslVerification,
    alert_status: core.hooks.alertStatus(hook),
    disabled_until: off === undefined ? null : new Date(off).toISOString(),
    url_variables: [],
    push_events_branch_filter: null,
    branch_filter_strategy: "wildcard",
    custom_webhook_template: "",
    custom_headers: [],
    ...home,
    issues_events: false,
    confidential_issues_events: false,
    note_events: false,
    confidential_note_events: null,
    pipeline_events: hook.pipelineEvents,
    wiki_page_events: false,
    deployment_events: false,
    feature_flag_events: false,
    job_events: hook.jobEvents,
    releases_events: false,
    milestone_events: false,
    emoji_events: false,
    resource_access_token_events: false,
    ...(isSigning(core.behaviour.hooks)
      ? { token_present: hook.token !== undefined, signing_token_present: hook.signingKey !== undefined }
      : {}),
  };
}
