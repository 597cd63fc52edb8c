// Parses files of Dart and Swift, for which Debian has no compiler, with tree-sitter's grammars:
//
//   node lib/parse.js FILE...
//
// Each error in the syntax is a line, and the status is then 1.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Language, Parser } from 'web-tree-sitter';

const grammars = join(dirname(createRequire(import.meta.url).resolve('@repomix/tree-sitter-wasms/package.json')), 'out');

const languages = new Map();

/** Swift's grammar takes seconds to load. */
async function languageOf(file) {
  const name = file.split('.').pop();
  if (!languages.has(name)) languages.set(name, await Language.load(join(grammars, `tree-sitter-${name}.wasm`)));
  return languages.get(name);
}

const errors = (node) => (node.isError || node.isMissing ? [node] : node.children.filter((c) => c.hasError || c.isMissing).flatMap(errors));

await Parser.init();
for (const file of process.argv.slice(2)) {
  const parser = new Parser();
  parser.setLanguage(await languageOf(file));
  for (const node of errors(parser.parse(readFileSync(file, 'utf8')).rootNode)) {
    console.log(`${file}:${node.startPosition.row + 1}: ${node.isMissing ? `missing ${node.type}` : `no syntax: ${node.text.slice(0, 80)}`}`);
    process.exitCode = 1;
  }
}
