import type { Command } from "commander";
import type { HostOptions } from "../../config/hosts.ts";
import type { GlobalOptions, Run } from "../context.ts";
import { findHost, imageOf, orderOf, runTrial } from "./trial.ts";

interface Options extends HostOptions, GlobalOptions {
  readonly image?: string;
}

export function addHostsCheck(hosts: Command, run: Run): void {
  hosts
    .command("check")
    .description("try a host out: connect, list, make a tiny machine, hear its guest, delete it")
    .argument("<host>", "its name in the configuration, or an address (host:port) with the options below")
    .option("--ca <file>", "the authority that signed its certificate")
    .option("--cert <file>", "our certificate, where the host asks for one")
    .option("--key <file>", "the key of our certificate")
    .option("--server-name <name>", "the name in its certificate, when it is not the one in the address")
    .option("--token-file <file>", "a file with flintlockd's --basic-auth-token")
    .option("--plaintext", "no TLS, for a flintlockd that was started with --insecure")
    .option("--token-over-plaintext", "send the token though nothing encrypts it")
    .option("--bridge <name>", "the bridge for machines, when it is not flintlockd's own")
    .option("--image <name>", "what the machine boots (default: that of the pools, or base)")
    .action(
      run<Options>(async (context, [name = ""], { image, config: _file, json: _json, ...options }) => {
        const config = await context.loadConfig();
        const host = await findHost(config, name, options);
        return await runTrial(context, config, orderOf(host, image ?? imageOf(config)));
      }),
    );
}
