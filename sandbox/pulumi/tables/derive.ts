/**
 * Makes the tables from the type declarations of the installed SDKs: run it after a change of simulated-types.ts or of an SDK's version.
 * `--write` writes them; without, it says which are out of step and fails. Reads declarations as syntax only: no type
 * checker, so a package takes a second. A development tool: nothing of the product imports it.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { CLOUD_PACKAGES, SIMULATED_MODULES, type CloudPackage } from './simulated-types.ts';
import { tablePath, type Kind, type PackageTable, type ResourceTable, type Shape } from './table.ts';

/** The text of the table as it is committed: one line per type and shape. */
export function deriveTable(name: CloudPackage): string {
  const reader = createReader(name);
  const { resources, functions } = SIMULATED_MODULES[name];
  const table: PackageTable = {
    package: name,
    version: reader.version,
    resources: Object.fromEntries(resources.map((path) => reader.readResource(path))),
    functions: Object.fromEntries(functions.map((path) => reader.readFunction(path))),
    shapes: reader.shapes(),
  };
  return renderTable(table);
}

function renderTable(table: PackageTable): string {
  const section = (entries: object): string =>
    `{\n${Object.entries(entries)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`)
      .join(',\n')}\n}`;
  const { resources, functions, shapes, ...head } = table;
  const start = Object.entries(head).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)},\n`);
  return `{\n${start.join('')}"resources": ${section(resources)},\n"functions": ${section(functions)},\n"shapes": ${section(shapes)}\n}\n`;
}

interface Reader {
  version: string;
  readResource(path: string): [token: string, table: ResourceTable];
  readFunction(path: string): [token: string, table: { in: Shape; out: Shape }];
  /** All that were met while reading, and those inside of them. */
  shapes(): Record<string, Shape>;
}

function createReader(name: CloudPackage): Reader {
  const packagePath = createRequire(import.meta.url).resolve(`@pulumi/${name}/package.json`);
  const root = dirname(packagePath);
  const declared = indexInterfaces(parse(join(root, 'types', 'input.d.ts')));
  const known = new Map<string, Shape>();
  const toKind = createKindReader({
    enumValues: (path) => readEnum(root, path),
    useShape(path) {
      if (known.has(path)) return;
      const found = declared.get(path);
      if (!found) throw new Error(`@pulumi/${name}: no declaration of inputs.${path}`);
      known.set(path, {});
      known.set(path, readShape(found.members, toKind));
    },
  });
  const moduleOf = (path: string): { file: ts.SourceFile; javascript: string } => ({
    file: parse(join(root, `${path}.d.ts`)),
    javascript: readFileSync(join(root, `${path}.js`), 'utf8'),
  });
  return {
    version: (JSON.parse(readFileSync(packagePath, 'utf8')) as { version: string }).version,
    readResource(path) {
      const { file, javascript } = moduleOf(path);
      const token = /__pulumiType = '([^']+)'/.exec(javascript)?.[1];
      if (token === undefined) throw new Error(`@pulumi/${name}/${path} has no __pulumiType`);
      const className = token.split(':').at(-1)!;
      const args = findInterface(file, `${className}Args`);
      const inputs = args ? readShape(args.members, toKind) : {};
      const out = readOutputs(findClass(file, className), inputs, name !== 'kubernetes');
      return [token, { in: inputs, out }];
    },
    readFunction(path) {
      const { file, javascript } = moduleOf(path);
      const token = /runtime\.invoke\("([^"]+)"/.exec(javascript)?.[1];
      if (token === undefined) throw new Error(`@pulumi/${name}/${path} invokes nothing`);
      const title = token
        .split(':')
        .at(-1)!
        .replace(/^./, (first) => first.toUpperCase());
      // The Output form's arguments: the plain form's point into other namespaces of types.
      const args = findInterface(file, `${title}OutputArgs`);
      const result = findInterface(file, `${title}Result`);
      return [
        token,
        { in: args ? readShape(args.members, toKind) : {}, out: result ? readShape(result.members, toOutline) : {} },
      ];
    },
    shapes: () => Object.fromEntries(known),
  };
}

function parse(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, false);
}

/** Interfaces of nested namespaces by their dotted path. */
function indexInterfaces(file: ts.SourceFile): Map<string, ts.InterfaceDeclaration> {
  const found = new Map<string, ts.InterfaceDeclaration>();
  const visit = (statements: readonly ts.Statement[], prefix: string): void => {
    for (const statement of statements) {
      if (ts.isInterfaceDeclaration(statement)) found.set(prefix + statement.name.text, statement);
      else if (ts.isModuleDeclaration(statement) && statement.body) visitModule(statement, prefix);
    }
  };
  const visitModule = ({ name, body }: ts.ModuleDeclaration, prefix: string): void => {
    const path = `${prefix}${name.text}.`;
    if (body && ts.isModuleBlock(body)) visit(body.statements, path);
    else if (body && ts.isModuleDeclaration(body)) visitModule(body, path);
  };
  visit(file.statements, '');
  return found;
}

function findInterface(file: ts.SourceFile, name: string): ts.InterfaceDeclaration | undefined {
  return file.statements.filter((node) => ts.isInterfaceDeclaration(node)).find((node) => node.name.text === name);
}

function findClass(file: ts.SourceFile, name: string): ts.ClassDeclaration {
  const found = file.statements
    .filter((node) => ts.isClassDeclaration(node))
    .find((node) => node.name?.text.toLowerCase() === name.toLowerCase());
  if (!found) throw new Error(`${file.fileName} has no class ${name}`);
  return found;
}

type ToKind = (type: ts.TypeNode) => Kind;

function readShape(members: readonly ts.TypeElement[], toKind: ToKind): Shape {
  const shape: Shape = {};
  for (const member of members) {
    if (!ts.isPropertySignature(member) || !member.type) continue;
    shape[nameOf(member) + (member.questionToken ? '' : '!')] = toKind(member.type);
  }
  return shape;
}

/** `hasDefaults`: an optional input that is always an output is filled in by the cloud. Kubernetes' declarations do not tell that. */
function readOutputs(node: ts.ClassDeclaration, inputs: Shape, hasDefaults: boolean): Shape {
  const shape: Shape = {};
  for (const member of node.members) {
    if (!ts.isPropertyDeclaration(member) || !member.type || isStatic(member)) continue;
    const name = nameOf(member);
    const isAlways = !hasUndefined(member.type);
    const isInput = name in inputs || `${name}!` in inputs;
    if (isInput && !(hasDefaults && isAlways && name in inputs)) continue;
    shape[name + (isAlways ? '!' : '')] = toOutline(member.type);
  }
  return shape;
}

function isStatic(member: ts.PropertyDeclaration): boolean {
  return member.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.StaticKeyword) ?? false;
}

function nameOf(member: { name?: ts.PropertyName | undefined }): string {
  const { name } = member;
  if (name && (ts.isIdentifier(name) || ts.isStringLiteral(name))) return name.text;
  throw new Error('a property with a computed name');
}

interface Names {
  enumValues(path: string): string[];
  useShape(path: string): void;
}

function createKindReader(names: Names): ToKind {
  const toKind: ToKind = (type) => {
    if (ts.isParenthesizedTypeNode(type)) return toKind(type.type);
    if (ts.isArrayTypeNode(type)) return `[${toKind(type.elementType)}]`;
    if (ts.isUnionTypeNode(type)) return joinKinds(type.types.filter((part) => !isUndefined(part)).map(toKind));
    if (ts.isTypeLiteralNode(type)) return mapKind(type, toKind);
    if (ts.isLiteralTypeNode(type) && ts.isStringLiteral(type.literal)) return `'${type.literal.text}'`;
    if (ts.isTypeReferenceNode(type)) return referenceKind(type, toKind, names);
    return simpleKind(type);
  };
  return toKind;
}

/** What the insides of an output are is not kept: `object`, `[object]`. */
const toOutline: ToKind = (type) => {
  if (ts.isParenthesizedTypeNode(type)) return toOutline(type.type);
  if (ts.isArrayTypeNode(type)) return `[${toOutline(type.elementType)}]`;
  if (ts.isUnionTypeNode(type)) return joinKinds(type.types.filter((part) => !isUndefined(part)).map(toOutline));
  if (ts.isTypeLiteralNode(type)) return 'object';
  if (ts.isLiteralTypeNode(type)) return 'string';
  if (!ts.isTypeReferenceNode(type)) return simpleKind(type);
  const path = pathOf(type.typeName);
  if (path === 'pulumi.Output') return toOutline(type.typeArguments![0]!);
  return path.startsWith('outputs.') ? 'object' : 'string';
};

function referenceKind(type: ts.TypeReferenceNode, toKind: ToKind, names: Names): Kind {
  const path = pathOf(type.typeName);
  if (path === 'pulumi.Input') return toKind(type.typeArguments![0]!);
  if (path === 'Record') return `{${toKind(type.typeArguments![1]!)}}`;
  if (path.startsWith('pulumi.asset.')) return 'asset';
  if (path.startsWith('inputs.')) {
    const name = path.slice('inputs.'.length);
    names.useShape(name);
    return `#${name}`;
  }
  if (path.startsWith('enums.')) {
    const values = names.enumValues(path.slice('enums.'.length));
    return joinKinds(values.map((value) => `'${value}'`));
  }
  if (path.endsWith('PolicyDocument')) return 'json';
  // A resource in the place of its name, and aliases such as ARN: text on the wire.
  return 'string';
}

function mapKind(type: ts.TypeLiteralNode, toKind: ToKind): Kind {
  const index = type.members.find((member) => ts.isIndexSignatureDeclaration(member));
  return index ? `{${toKind(index.type)}}` : 'any';
}

function simpleKind(type: ts.TypeNode): Kind {
  switch (type.kind) {
    case ts.SyntaxKind.StringKeyword:
      return 'string';
    case ts.SyntaxKind.NumberKeyword:
      return 'number';
    case ts.SyntaxKind.BooleanKeyword:
      return 'boolean';
    case ts.SyntaxKind.AnyKeyword:
    case ts.SyntaxKind.UnknownKeyword:
    case ts.SyntaxKind.ObjectKeyword:
      return 'any';
    default:
      throw new Error(`a type of kind ${ts.SyntaxKind[type.kind]} is not known to the table`);
  }
}

/** An enum beside `string` only suggests values, so any text goes. */
function joinKinds(kinds: readonly Kind[]): Kind {
  const distinct = [...new Set(kinds.flatMap((kind) => kind.split('|')))];
  if (distinct.includes('any')) return 'any';
  const isOpen = distinct.includes('string') || distinct.includes('json');
  const kept = distinct.filter((kind) => !(isOpen && kind.startsWith("'")));
  return (kept.includes('json') ? kept.filter((kind) => kind !== 'string') : kept).join('|');
}

function isUndefined(type: ts.TypeNode): boolean {
  return type.kind === ts.SyntaxKind.UndefinedKeyword;
}

function hasUndefined(type: ts.TypeNode): boolean {
  if (ts.isTypeReferenceNode(type)) return (type.typeArguments ?? []).some((argument) => hasUndefined(argument));
  return ts.isUnionTypeNode(type) && type.types.some((part) => isUndefined(part));
}

function pathOf(name: ts.EntityName): string {
  return ts.isIdentifier(name) ? name.text : `${pathOf(name.left)}.${name.right.text}`;
}

const enumFiles = new Map<string, ts.SourceFile>();

function readEnum(root: string, path: string): string[] {
  const parts = path.split('.');
  const name = parts.pop()!;
  const at = join(root, 'types', 'enums', ...parts, 'index.d.ts');
  if (!existsSync(at)) throw new Error(`no declaration of enums.${path}`);
  const file = enumFiles.get(at) ?? parse(at);
  enumFiles.set(at, file);
  for (const statement of file.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    for (const { name: variable, type } of statement.declarationList.declarations) {
      if (!ts.isIdentifier(variable) || variable.text !== name || !type || !ts.isTypeLiteralNode(type)) continue;
      return type.members.flatMap((member) => {
        const value = ts.isPropertySignature(member) ? member.type : undefined;
        return value && ts.isLiteralTypeNode(value) && ts.isStringLiteral(value.literal) ? [value.literal.text] : [];
      });
    }
  }
  throw new Error(`no values of enums.${path}`);
}

if (import.meta.main) {
  for (const name of CLOUD_PACKAGES) {
    const text = deriveTable(name);
    if (process.argv.includes('--write')) {
      writeFileSync(tablePath(name), text);
    } else if (!existsSync(tablePath(name)) || readFileSync(tablePath(name), 'utf8') !== text) {
      process.stderr.write(`sandbox/pulumi/tables/${name}.json is out of step: run derive.ts --write\n`);
      process.exitCode = 1;
    }
  }
}
