/** What to do about each error. Its meaning stands beside its code in the module's errors.ts; a test keeps both complete. */
export const advice: Readonly<Record<string, string>> = {
  api_certificate: "The message names the file; it is to be PEM, with the key that belongs to it (api.tls).",
  api_listen: "Choose another address or port in api.listen, as the message says.",
  bad_unit: "Write durations as 500ms, 30s, 5m or 1h30m, sizes as 512MiB or 4GiB.",
  bad_request: "Correct the value that the message names; “COMMAND --help” shows what is accepted.",
  cache_cut: "Nothing: the runner tries again, and what was there before is still there.",
  cache_directory: "Name a directory in cache.directory that FireRunner's user may write to.",
  cache_no_space: "Make room on the disk (firerunner cache prune), or lower cache.minFree.",
  cache_server_refused:
    "Correct cache.s3: bucket, region, and keys that may read, write, list and delete there.",
  cache_server_unavailable: "Look at the S3 server, and at the way to it (cache.s3.endpoint, proxy, caFile).",
  cache_too_large: "Raise cache.projectSize and cache.size, or keep less in the cache.",
  ci_file_invalid: "Correct the line of .gitlab-ci.yml that the message names.",
  ci_repository: "Give the directory of a repository in which a .gitlab-ci.yml lies.",
  cli_canceled: "Nothing was written; run “firerunner init” again.",
  cli_door: "Start FireRunner, or correct the address; name the authority of its certificate with --ca.",
  cli_init_file: "Use sudo, or name another place with --config FILE.",
  cli_key_file: "Let this user write the file that webhook.signingKeyFile names, or use sudo.",
  cli_not_allowed: "Use the user FireRunner runs as (root, with sudo, for a system service).",
  cli_not_running: "Start FireRunner, or name the configuration of the one that runs with --config.",
  cli_setup: "Do what the hint says, and run “firerunner init” again.",
  cli_strange_answer: "Restart the daemon: it and the command line are of different versions.",
  cli_usage: "“firerunner COMMAND --help” shows the arguments and options.",
  config_invalid: "Correct each line that is listed; “firerunner config check” tells when all is well.",
  config_unreadable:
    "Write a configuration (docs/configuration.md begins with one), or name it with --config.",
  container_bad_image:
    "Check the name, and that the registry's answer is not a proxy's; nothing of it was kept.",
  container_bad_name: "Write NAME:TAG or HOST/NAME:TAG, as in .gitlab-ci.yml.",
  container_bad_policy: "Write always, if-not-present or never, or a list of them.",
  container_cache_broken:
    "Stop what uses the directory and remove it: all that is in it can be fetched again.",
  container_compose_failed:
    "Install squashfs-tools-ng, and look at the free space of containers.cache.directory.",
  container_denied: "Give a login that may read the image (containers.registries), and check its name.",
  container_forbidden_address:
    "Name the registry in containers.registries if jobs may have images from there.",
  container_late: "Look at the way to the registry, or raise containers.pullDeadline of the pool.",
  conflict: "Look at how things are now (firerunner why JOB), and ask for something that goes with it.",
  container_layer_refused: "Build the image anew with a common tool.",
  container_no_space: "Raise containers.cache.size, or make room on its disk (firerunner image cache prune).",
  container_not_found: "Correct the image's name or tag.",
  container_not_here: "Fetch it: firerunner image cache pull NAME.",
  container_too_large: "Make the image smaller: a layer may have 32 GiB.",
  container_wrong_platform: "Name an image that is made for this computer's architecture.",
  control_socket: "Choose a short state directory that this user may write to and that has room.",
  control_taken: "Stop the other FireRunner, or give this one a state directory of its own.",
  demo_no_job: "Give the pipeline a job that runs by itself.",
  demo_program_failed:
    "The lines printed before it say why; “firerunner doctor” finds what this computer lacks.",
  demo_repository: "Name the root of a Git repository with a commit and a .gitlab-ci.yml.",
  demo_timeout: "Try again on a less busy computer; with --keep the demo's log stays for a look.",
  directory_failed:
    "Make the directory by hand for the user FireRunner runs as, or name another in the configuration.",
  gitlab_api_token:
    "Create an access token in GitLab and put it where webhook.apiToken is configured; then reload.",
  gitlab_ca_unreadable: "gitlab.caFile must name a PEM file that this user may read.",
  gitlab_certificate: "Name the PEM file of GitLab's certificate authority in gitlab.caFile.",
  gitlab_client_certificate:
    "Give the certificate that GitLab's administrator made for this computer in gitlab.clientCertificateFile and gitlab.clientKeyFile.",
  forbidden: "Ask with a token of a role that may do it (api.tokens).",
  gitlab_forbidden:
    "Give the access token the scope, or its user the role, that the message names (docs/gitlab.md lists them).",
  gitlab_not_found:
    "Check the path or id in the configuration, and that the API token's user is a member there.",
  gitlab_proxy: "The message has the proxy's answer; docs/networks.md says what each means.",
  gitlab_rate_limited:
    "Nothing: it is asked again when GitLab allows. If it stays, let webhook.poll ask less often.",
  gitlab_refused: "The message has GitLab's own words; the hint says what to change where that is known.",
  gitlab_unavailable: "Nothing: it is asked again, ever more slowly, until it is back.",
  gitlab_unreachable: "Check gitlab.url, DNS, and firewalls between this computer and GitLab.",
  gitlab_wrong_token:
    "Create a runner in GitLab and put its token (glrt-…) into the pool's token file; then reload.",
  gitlab_wrong_url: "Correct gitlab.url; a GitLab below a path needs the path as well.",
  image_build_failed:
    "The message has the last lines of the tool that failed; “image build --force” starts anew.",
  image_corrupt: "Build it again: firerunner image build --force.",
  image_download_failed:
    "Try again (it resumes), name a mirror in images.runnerMirror, or use --runner PATH.",
  image_download_wrong:
    "Try again; if it stays, the mirror serves something else: use another, or --runner PATH.",
  image_download_insecure:
    "Name an https address in images.runnerMirror; for a mirror of your own without TLS, say --allow-http-mirror.",
  image_key_expired:
    "Get a newer copy of GitLab's key (docs/images.md says where) and name it with --runner-key, or use --runner PATH.",
  image_key_wrong:
    "Name a file with GitLab's public key, by the fingerprint in the message, with --runner-key.",
  image_signature_wrong:
    "Distrust where the release came from: try without images.runnerMirror, or use --runner PATH.",
  image_missing: "Build it: firerunner image build --name NAME. “firerunner image list” shows what is there.",
  image_no_sources: "Name Debian's package sources in images.sources.",
  image_no_space: "Free some space, or name another place with images.directory.",
  metrics_certificate: "Give metrics.tls a certificate and the key that belongs to it, both in PEM form.",
  metrics_listen: "Choose another address or port in metrics.listen, or end the program that holds it.",
  door_certificate: "Give http.tls a certificate and the key that belongs to it, both in PEM form.",
  door_listen: "Choose another address or port in http.listen, or end the program that holds it.",
  runner_unknown: "“firerunner runner list” shows the runners there are.",
  runner_tags:
    "Give a tag such as firecracker-2cpu-4gb with the prefix of webhook.tagPrefix, within webhook.sizes.",
  runner_limit: "Raise webhook.runners.most, if GitLab's plan allows more runners.",
  runner_per_job: "Switch webhook.runners.perJob off to make runners ahead of jobs.",
  image_runner_broken: "Use a gitlab-runner for Linux and this architecture that can be executed here.",
  image_trial_failed:
    "Build the image again with --force; the last words of the job and of the machine's console are in the message.",
  image_tools_missing: "Install the packages that the message names.",
  proxy_authentication:
    "Correct proxy.username and proxy.passwordFile, or the user and password in HTTPS_PROXY.",
  proxy_certificate: "Put the certificate of the authority that signed the proxy's into proxy.caFile.",
  proxy_refused:
    "Let the proxy's rules allow the target, or name it in proxy.noProxy when it needs no proxy.",
  proxy_unreachable: "Check proxy.url (or HTTPS_PROXY), and whether the proxy runs.",
  method_not_allowed: "Use the method that the message names; /api/v1/openapi.json lists them.",
  not_configured: "Give what the hint names in the configuration.",
  not_found: "“firerunner jobs” and “firerunner machines --all” list what is known.",
  process_failed: "The message ends with the program's own last words.",
  registry_bad_name: "Write REGISTRY/NAME or REGISTRY/NAME:TAG with the registry's host in front.",
  registry_credentials:
    "Log in again, as with docker login, or repair the credential helper the message names.",
  registry_name_unknown: "Make the project or repository in the registry first, or push to another name.",
  registry_no_space: "Make room in the registry, and push again: what has arrived is not sent again.",
  registry_refused:
    "The message has the registry's own words; the hint says what to change where that is known.",
  registry_tls: "Name the certificate authority with --ca FILE; --plain-http is for registries without TLS.",
  registry_unauthorized: "Log in, as with docker login, as a user who may push to that name.",
  registry_unavailable: "Push again later: what has arrived is not sent again.",
  registry_unreachable: "Check the registry's host and port, and the network between.",
  relay_refusal: "Nothing: it is the answer to a guest that asked for something it may not have.",
  relay_certificate: "Do what the message says of the file.",
  relay_listen: "Correct relay.listen, or end the program that listens there.",
  relay_no_link: "Nothing: the machine is not wanted any more, and its job gets another.",
  relay_no_network:
    "Set relay.listen and relay.advertise, so that machines on other hosts can reach the relay.",
  relay_socket: "Check the rights and the free space of the state directory.",
  relay_socket_path: "Choose a shorter state directory.",
  scheduler_deadline: "Nothing: it is tried again. If it repeats, look at the load of this computer.",
  scheduler_no_driver:
    "Let the pool use a driver that this program has, or start the version that made the machine.",
  scheduler_no_payload: "Nothing: the job is reported as failed to GitLab. Check the disk if it repeats.",
  scheduler_stopped: "Nothing: the next start goes on.",
  scheduler_superseded: "Nothing: something newer is being done instead.",
  store_corrupt: "Check the disk; restore firerunner.db from a backup, or move it away to start empty.",
  store_failed: "Check that the state directory exists and belongs to the user FireRunner runs as.",
  store_full: "Free some space; nothing is claimed until there is room.",
  store_key: "Restore the key file from a backup, with mode 0600.",
  store_locked: "Stop the other FireRunner, or give this one a state directory of its own.",
  store_newer: "Start the newer version, or restore the database from before it.",
  too_many: "Let some of what is asked for end first.",
  unauthorized: "Give a token of api.tokens: Authorization: Bearer TOKEN.",
  untrusted_file:
    "Look at what is in the file or directory that the message names, then run the command of the hint.",
  vm_bad_spec: "Correct the pool's size or shorten the state directory, as the message says.",
  vm_create_failed: "The message has the hypervisor's words; another machine is tried.",
  vm_destroy_failed:
    "Nothing: it is tried again until nothing is left. If it stays, end the process the message names.",
  vm_disk_full: "Free some space in the state directory.",
  vm_host_avoided: "Nothing: it is asked again after some seconds. The message says what had gone wrong.",
  vm_host_certificate:
    "Name the authority in the host's tls.caFile, its name in tls.serverName, or give it a new certificate.",
  vm_host_credentials:
    "Give the host's entry the token or the certificate that its flintlockd was started with; then reload.",
  vm_host_protocol: "Correct the host's address, or its plaintext setting, as the message says.",
  vm_host_refused:
    "The message has flintlockd's own words; its log on the host has more. Another host is tried where that helps.",
  vm_host_sick: "Do on the host what the hint says; it is used again once the signs are gone.",
  vm_host_timeout: "Nothing: it is tried again. If it stays, look at the host's load and its flintlockd.",
  vm_host_unknown_machine: "Nothing: the machine is gone already.",
  vm_host_unreachable: "Start flintlockd on the host, or correct its address, DNS or firewalls.",
  vm_image_broken: "Build the image again: firerunner image build --force.",
  vm_image_gone: "Push the image again (firerunner image push), or name one that is still there.",
  vm_image_unpublished: "Push the image: firerunner image push REGISTRY/NAME.",
  vm_no_address: "Widen network.addresses of the host, or let it have fewer machines.",
  vm_unusable: "“firerunner doctor” says what is missing and how to get it.",
};

/** What codes mean that are not part of a module's union of codes. */
export const meanings: Readonly<Record<string, string>> = {
  directory_failed: "A directory that the configuration or an option names could not be made.",
  bad_unit: "A duration or a size is not written in a known form.",
  ci_file_invalid: "A .gitlab-ci.yml says something that GitLab would refuse too.",
  ci_repository: "In the path that was given there is no .gitlab-ci.yml to read.",
  demo_no_job: "The demo's pipeline has no job.",
  process_failed: "A helper program ended with an error, or could not be started.",
  untrusted_file:
    "Others than root and FireRunner's user can change a file or a directory that it relies on, or read a secret.",
  relay_refusal: "A guest broke a rule of the relay.",
};
