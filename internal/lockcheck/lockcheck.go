// Package lockcheck finds calls that leave a layer while a lock is held: into a
// function that somebody else supplied, through an interface, to the network, or
// down to where messages are sent. What is called may come back for the lock, or
// keep it for as long as the network likes. It also finds callbacks of the timing
// wheel that take a lock which is held across such a call, since all timeouts of
// the process wait for it then.
//
// It follows the calls of the functions that it knows, through interfaces and
// fields of functions too, with the set of locks that are held on the way. A lock is
// the field of a type, whichever value has it. A goroutine begins without locks.
package lockcheck

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// Finding is a call that ought not to be made.
type Finding struct {
	Pos  string // file:line
	Func string // the function that makes the call
	Lock string // that is held, or taken by a callback of the wheel
	Call string // what is called; "wheel" for a callback that takes the lock
}

// Key is what an entry in a list of exceptions looks like.
func (f Finding) Key() string { return f.Func + ": " + f.Lock + ": " + f.Call }

func (f Finding) String() string { return f.Pos + ": " + f.Key() }

// Rules says what leaves a layer, besides calls of unknown functions.
type Rules struct {
	// Outward are functions by full name, as types.Func has it, or all of a package
	// or type, "net.*", "(*log/slog.Logger).*".
	Outward []string
	// Harmless are interfaces, and types of functions, that may be called; and
	// packages whose functions call their arguments at once, "slices.*".
	Harmless []string
	// Serial are locks that are held while another layer is called, on purpose. Only
	// callbacks of the wheel that take them are found.
	Serial []string
	// Reviewed are the calls that were found to be right, by Finding.Key.
	Reviewed map[string]string
	// Wheel is the full name of the type whose field F is a callback of the wheel.
	Wheel string
}

// fn is a function with a body.
type fn struct {
	name string
	p    *pkg
	body *ast.BlockStmt
}

type held map[string]bool

func (h held) key() string { return strings.Join(slices.Sorted(maps.Keys(h)), ",") }

// checker is one run over some packages.
type checker struct {
	rules  Rules
	fset   *token.FileSet
	funcs  map[types.Object]*fn   // declared ones
	lits   map[*ast.FuncLit]*fn   // and literals
	fields map[types.Object][]*fn // what is assigned to a field or variable
	open   map[types.Object]bool  // something unknown is assigned to it, too
	named  []*types.Named         // types that may stand behind an interface
	wheel  []*fn                  // callbacks
	seen   map[string]held        // function and locks at its beginning -> at its end
	found  map[string]Finding
	taken  map[string]bool // locks that were taken since it was emptied
}

// Check returns what it finds in the packages that patterns select in the module at
// dir.
func Check(dir string, rules Rules, patterns ...string) ([]Finding, error) {
	fset, pkgs, err := load(dir, patterns)
	if err != nil {
		return nil, err
	}
	c := &checker{
		rules: rules, fset: fset, funcs: map[types.Object]*fn{}, lits: map[*ast.FuncLit]*fn{}, fields: map[types.Object][]*fn{}, open: map[types.Object]bool{},
		seen: map[string]held{}, found: map[string]Finding{}, taken: map[string]bool{},
	}
	for _, p := range pkgs {
		c.declare(p)
	}
	for _, p := range pkgs {
		c.assignments(p)
	}
	for _, f := range c.all() {
		c.visit(f, held{})
	}
	across, used := map[string]bool{}, map[string]bool{}
	for key, f := range c.found {
		switch _, ok := rules.Reviewed[f.Key()]; {
		case ok:
			used[f.Key()] = true
			delete(c.found, key)
		default:
			across[f.Lock] = true
			if slices.Contains(rules.Serial, f.Lock) {
				delete(c.found, key)
			}
		}
	}
	for key := range rules.Reviewed {
		if !used[key] {
			c.add(Finding{Pos: "rules:0", Func: key, Call: "not found any more"})
		}
	}
	found := c.found
	for _, f := range c.wheel {
		c.seen, c.taken, c.found = map[string]held{}, map[string]bool{}, map[string]Finding{}
		c.visit(f, held{}) // for the locks, what it finds was found before
		for lock := range c.taken {
			if across[lock] {
				at := Finding{c.pos(f.body.Pos()), f.name, lock, "wheel"}
				found[at.String()] = at
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Finding) int { return strings.Compare(a.String(), b.String()) }), nil
}

func (c *checker) all() []*fn {
	all := slices.Concat(slices.Collect(maps.Values(c.funcs)), slices.Collect(maps.Values(c.lits)))
	slices.SortFunc(all, func(a, b *fn) int { return int(a.body.Pos() - b.body.Pos()) })
	return all
}

func (c *checker) add(f Finding) { c.found[f.String()] = f }

func (c *checker) pos(p token.Pos) string {
	at := c.fset.Position(p)
	return fmt.Sprintf("%s:%d", at.Filename[strings.LastIndex(at.Filename, "/")+1:], at.Line)
}

// declare notes the functions and types of a package.
func (c *checker) declare(p *pkg) {
	for _, name := range p.types.Scope().Names() {
		if t, ok := p.types.Scope().Lookup(name).(*types.TypeName); ok {
			if n, ok := t.Type().(*types.Named); ok && !types.IsInterface(n) && n.TypeParams() == nil {
				c.named = append(c.named, n)
			}
		}
	}
	for _, file := range p.files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				c.literals(p, p.types.Name()+" variables", d)
				continue
			}
			if f.Body == nil {
				continue
			}
			obj := p.info.Defs[f.Name]
			name := short(obj.(*types.Func).FullName())
			c.funcs[obj] = &fn{name, p, f.Body}
			c.literals(p, name, f.Body)
		}
	}
}

func (c *checker) literals(p *pkg, in string, root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		if lit, ok := n.(*ast.FuncLit); ok {
			c.lits[lit] = &fn{in + ".func", p, lit.Body}
		}
		return true
	})
}

// assignments notes which functions stand behind fields and variables.
func (c *checker) assignments(p *pkg) {
	note := func(to types.Object, value ast.Expr) {
		v, ok := to.(*types.Var)
		if !ok || !isFunc(v.Type()) {
			return
		}
		to = v.Origin()
		f := c.function(p, value)
		if f == nil {
			c.open[to] = c.open[to] || !p.info.Types[value].IsNil()
			return
		}
		c.fields[to] = append(c.fields[to], f)
		if v.IsField() && v.Name() == "F" && v.Pkg() != nil && v.Pkg().Path()+".Timer" == c.rules.Wheel {
			c.wheel = append(c.wheel, f)
		}
	}
	for _, file := range p.files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok {
					note(p.info.Uses[key], n.Value)
				}
			case *ast.AssignStmt:
				for i := range min(len(n.Lhs), len(n.Rhs)) {
					note(object(p, n.Lhs[i]), n.Rhs[i])
				}
			}
			return true
		})
	}
}

// function returns the function that an expression is, nil when it is not known.
func (c *checker) function(p *pkg, e ast.Expr) *fn {
	if lit, ok := ast.Unparen(e).(*ast.FuncLit); ok {
		return c.lits[lit]
	}
	if f, ok := object(p, e).(*types.Func); ok {
		return c.funcs[f.Origin()]
	}
	return nil
}

// object returns what a name, qualified or not, stands for.
func object(p *pkg, e ast.Expr) types.Object {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		if o := p.info.Defs[e]; o != nil {
			return o
		}
		return p.info.Uses[e]
	case *ast.SelectorExpr:
		if s := p.info.Selections[e]; s != nil {
			return s.Obj()
		}
		return p.info.Uses[e.Sel]
	case *ast.IndexExpr:
		return object(p, e.X)
	case *ast.IndexListExpr:
		return object(p, e.X)
	}
	return nil
}

func isFunc(t types.Type) bool {
	_, ok := t.Underlying().(*types.Signature)
	return ok
}

// short is a full name without the path of its package.
func short(full string) string {
	if rest, ok := strings.CutPrefix(full, "("); ok {
		full = strings.TrimPrefix(strings.Replace(rest, ")", "", 1), "*")
	}
	return full[strings.LastIndex(full, "/")+1:]
}
