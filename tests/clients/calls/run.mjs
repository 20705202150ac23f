// Runs one file of calls: `node run.mjs FILE '{MODEL: URL}' [CALL …]`. As run.py does.
import { pathToFileURL } from "node:url";

const [file, urls, ...named] = process.argv.slice(2);
const calls = await import(pathToFileURL(file));
for (const [call, ask] of Object.entries(calls)) {
  if (named.length > 0 && !named.includes(call)) continue;
  let said;
  try {
    said = { told: await ask(JSON.parse(urls)) };
  } catch (error) {
    said = { raised: `${error?.stack ?? error}` };
  }
  const line = `${JSON.stringify({ call, ...said })}\n`;
  await new Promise((written) => process.stdout.write(line, written));
}
process.exit(0); // some clients keep connections
