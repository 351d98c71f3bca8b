import { createServer, type Server, type Socket } from "node:net";

const SILENCE_MS = 120_000;

export interface RunInside {
  readonly onLine?: (line: string) => void;
  /** How long it may say nothing. */
  readonly silenceMs?: number;
}

export interface Agent {
  run(script: string, options: RunInside): Promise<{ status: number; output: string }>;
  close(): Promise<void>;
}

/** The agent inside dials; each of its connections runs one script. Its end is a NUL and the status. */
export async function listenForAgent(path: string): Promise<Agent> {
  const idle: Socket[] = [];
  const wanted: ((socket: Socket) => void)[] = [];
  const server: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("close", () => void (idle.includes(socket) && idle.splice(idle.indexOf(socket), 1)));
    const next = wanted.shift();
    if (next) next(socket);
    else idle.push(socket);
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  const connection = () =>
    new Promise<Socket>((resolve) => {
      const ready = idle.shift();
      if (ready) resolve(ready);
      else wanted.push(resolve);
    });
  return {
    async run(script, { onLine, silenceMs = SILENCE_MS }) {
      let socket: Socket | undefined;
      const late = Promise.withResolvers<never>();
      const timer = setTimeout(() => {
        socket?.destroy();
        late.reject(new Error(`no word within ${silenceMs} ms: ${script}`));
      }, silenceMs);
      const answer = async () => {
        socket = await connection();
        socket.write(`${Buffer.from(script).toString("base64")}\n`);
        return await readAnswer(socket, () => timer.refresh(), onLine);
      };
      return await Promise.race([answer(), late.promise]).finally(() => clearTimeout(timer));
    },
    async close() {
      for (const socket of idle) socket.destroy();
      server.close();
    },
  };
}

async function readAnswer(
  socket: Socket,
  onWord: () => void,
  onLine: ((line: string) => void) | undefined,
): Promise<{ status: number; output: string }> {
  let text = "";
  let told = 0;
  socket.setEncoding("utf8");
  for await (const chunk of socket as AsyncIterable<string>) {
    text += chunk;
    onWord();
    for (let end = text.indexOf("\n", told); end >= 0; end = text.indexOf("\n", told)) {
      const line = text.slice(told, end);
      if (line.includes("\0")) break;
      onLine?.(line);
      told = end + 1;
    }
    const last = /\0(\d+)\n$/.exec(text);
    if (last) return { status: Number(last[1]), output: text.slice(0, last.index) };
  }
  throw new Error(`the emulated host hung up: ${text.slice(-500)}`);
}
