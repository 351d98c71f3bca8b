/** The executable. Everything else is loaded only once it is known that this Node can run it. */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  process.stderr.write(
    `firerunner: Node 24.12 or newer is needed, this is ${process.versions.node}\n  → run “make setup” and use bin/firerunner\n`,
  );
  process.exit(1);
}

// Whoever reads our output may stop early (`| head`): that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

const { runFromProcess } = await import("./cli/program.ts");
process.exit(await runFromProcess());

export {};
