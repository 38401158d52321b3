// Reads Markdown files by two parsers with wiki links; prints {parser: {file: [targets]}} as JSON. Arguments: the files.
import { readFileSync } from "node:fs";
import MarkdownIt from "markdown-it";
import wikiLinks from "markdown-it-wikilinks";
import remarkParse from "remark-parse";
import remarkWikiLink from "remark-wiki-link";
import { unified } from "unified";

const body = (file) => readFileSync(file, "utf8").replace(/^---\n[^]*?\n---\n/, "");
const same = (name) => name;
const markdownIt = new MarkdownIt().use(wikiLinks({ baseURL: "", uriSuffix: "", makeAllLinksAbsolute: false, generatePageNameFromLabel: same, postProcessPageName: same, postProcessLabel: same, htmlAttributes: { class: "wiki" } }));
const remark = unified().use(remarkParse).use(remarkWikiLink.wikiLinkPlugin ?? remarkWikiLink, { aliasDivider: "|" });

function* nodes(tree) {
  if (tree.type === "wikiLink") yield tree.value;
  for (const one of tree.children ?? []) yield* nodes(one);
}
const read = {
  "markdown-it-wikilinks": (text) => [...markdownIt.render(text).matchAll(/<a href="\.\/([^"]*)" class="wiki">/g)].map((one) => one[1]),
  "remark-wiki-link": (text) => [...nodes(remark.parse(text))],
};
const found = {};
for (const [name, parse] of Object.entries(read)) found[name] = Object.fromEntries(process.argv.slice(2).map((file) => [file, parse(body(file))]));
process.stdout.write(JSON.stringify(found));
