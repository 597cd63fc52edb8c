// Package lockcheck is a static analysis that finds calls which leave a layer while a
// lock is held: a function that another layer supplied, a method of an interface, the
// network, or a function that sends messages. The callee may need the same lock, or
// block for as long as the network does. It also finds callbacks of the timing wheel
// that take a lock which is held across such a call, because all timeouts of the process
// would wait for it.
//
// It follows calls of known functions, also through interfaces and fields of function
// type, with the set of locks that are held. A lock is identified by its type and field,
// not by value. A goroutine starts without locks.
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

// Finding is a forbidden call.
type Finding struct {
	Pos  string // file:line
	Func string // the function that makes the call
	Lock string // the lock that is held, or that a callback of the wheel takes
	Call string // the function called, or "wheel" for a callback that takes the lock
}

// Key returns the finding's key in Rules.Reviewed.
func (f Finding) Key() string { return f.Func + ": " + f.Lock + ": " + f.Call }

func (f Finding) String() string { return f.Pos + ": " + f.Key() }

// Rules configures Check. Calls of unknown functions always count as leaving a layer.
type Rules struct {
	// Outward lists functions that leave a layer: by full name as types.Func.FullName
	// returns it, or all of a package or type ("net.*", "(*log/slog.Logger).*").
	Outward []string
	// Harmless lists interfaces and function types whose calls are allowed, and
	// packages whose functions call their arguments before they return ("slices.*").
	Harmless []string
	// Serial lists locks that are held on purpose while another layer is called. For
	// these only callbacks of the wheel that take them are found.
	Serial []string
	// Reviewed lists allowed findings, by Finding.Key, each with the reason.
	Reviewed map[string]string
	// Wheel is the full name of the timer type whose field F is the wheel's callback.
	Wheel string
}

// fn is a function with a body.
type fn struct {
	name string
	p    *pkg
	body *ast.BlockStmt
}

// held is a set of locks.
type held map[string]bool

func (h held) key() string { return strings.Join(slices.Sorted(maps.Keys(h)), ",") }

// checker is one run of Check.
type checker struct {
	rules  Rules
	fset   *token.FileSet
	funcs  map[types.Object]*fn   // declared functions
	lits   map[*ast.FuncLit]*fn   // function literals
	fields map[types.Object][]*fn // known functions that are assigned to a field or variable
	open   map[types.Object]bool  // fields and variables that an unknown function is assigned to as well
	named  []*types.Named         // types that may implement an interface
	wheel  []*fn                  // callbacks of the wheel
	seen   map[string]held        // by function and locks held at its start: the locks held at its end
	found  map[string]Finding
	taken  map[string]bool // locks taken since it was last cleared
}

// Check analyzes the packages that patterns select in the module at dir, and returns
// its findings in order of position.
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
		c.visit(f, held{}) // only for c.taken; its findings are in found already
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

// declare collects the functions and types of a package.
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
			name := short(obj.(*types.Func).FullName()) //nolint:errcheck,forcetypeassert // a FuncDecl defines a Func
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

// assignments collects the functions that are assigned to fields and variables.
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

// object returns the object that a name, qualified or not, refers to.
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

// short returns a full name without the path of its package.
func short(full string) string {
	if rest, ok := strings.CutPrefix(full, "("); ok {
		full = strings.TrimPrefix(strings.Replace(rest, ")", "", 1), "*")
	}
	return full[strings.LastIndex(full, "/")+1:]
}
