import type { VariableSpec } from "./panels.ts";

/** All are those that are FireRunners: `process_` figures others have as well. */
export const instances: VariableSpec = {
  name: "instance",
  label: "FireRunner",
  values: "label_values(firerunner_build_info, instance)",
};
export const hosts: VariableSpec = {
  name: "host",
  label: "Host",
  values: 'label_values(firerunner_host_up{instance=~"$instance"}, host)',
  all: ".*",
};
export const pools: VariableSpec = {
  name: "pool",
  label: "Pool",
  values: 'label_values(firerunner_machine_vcpu_seconds_total{instance=~"$instance"}, pool)',
  all: ".*",
};
