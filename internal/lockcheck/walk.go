// Walking: the statements of a function in their order, with the locks that are
// held.

package lockcheck

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// walk is one function being walked through, with the locks held so far.
type walk struct {
	c      *checker
	f      *fn
	held   held
	defers []*ast.CallExpr
	ends   []held // at its return statements
}

// visit walks through a function that is entered with locks held, and returns those
// held at its end.
func (c *checker) visit(f *fn, h held) held {
	key := f.name + c.pos(f.body.Pos()) + "|" + h.key()
	if end, ok := c.seen[key]; ok {
		return end
	}
	c.seen[key] = h // for recursion
	w := &walk{c: c, f: f, held: maps.Clone(h)}
	if w.block(f.body.List) {
		w.end()
	}
	out := held{}
	for _, e := range w.ends {
		maps.Copy(out, e)
	}
	c.seen[key] = out
	return out
}

// end runs what was deferred.
func (w *walk) end() {
	before := maps.Clone(w.held)
	for _, d := range slices.Backward(w.defers) {
		w.call(d)
	}
	w.ends = append(w.ends, w.held)
	w.held = before
}

// block reports whether its end is reached.
func (w *walk) block(list []ast.Stmt) bool {
	for _, s := range list {
		if !w.stmt(s) {
			return false
		}
	}
	return true
}

// branches walks through alternatives; what is held after any that goes on is held
// behind them.
func (w *walk) branches(alternatives ...func() bool) bool {
	before, after, on := w.held, held{}, false
	for _, f := range alternatives {
		w.held = maps.Clone(before)
		if f() {
			maps.Copy(after, w.held)
			on = true
		}
	}
	w.held = after
	return on
}

func (w *walk) stmt(s ast.Stmt) bool {
	pass := func() bool { return true }
	switch s := s.(type) {
	case nil:
	case *ast.BlockStmt:
		return w.block(s.List)
	case *ast.LabeledStmt:
		return w.stmt(s.Stmt)
	case *ast.IfStmt:
		w.stmt(s.Init)
		w.expr(s.Cond)
		return w.branches(func() bool { return w.block(s.Body.List) }, func() bool { return s.Else == nil || w.stmt(s.Else) })
	case *ast.ForStmt:
		w.stmt(s.Init)
		w.expr(s.Cond)
		w.branches(pass, func() bool { w.block(s.Body.List); w.stmt(s.Post); return true })
	case *ast.RangeStmt:
		w.expr(s.X)
		w.branches(pass, func() bool { w.block(s.Body.List); return true })
	case *ast.SwitchStmt:
		w.stmt(s.Init)
		w.expr(s.Tag)
		return w.clauses(s.Body.List)
	case *ast.TypeSwitchStmt:
		w.stmt(s.Init)
		w.stmt(s.Assign)
		return w.clauses(s.Body.List)
	case *ast.SelectStmt:
		return w.clauses(s.Body.List)
	case *ast.ReturnStmt:
		for _, e := range s.Results {
			w.expr(e)
		}
		w.end()
		return false
	case *ast.BranchStmt: // the loop's end is reached with what its beginning had
		return s.Tok == token.FALLTHROUGH || s.Tok == token.BREAK
	case *ast.DeferStmt:
		for _, a := range s.Call.Args {
			w.expr(a)
		}
		w.defers = append(w.defers, s.Call)
	case *ast.GoStmt:
		for _, a := range s.Call.Args {
			w.expr(a)
		}
	default:
		w.expr(s)
	}
	return true
}

func (w *walk) clauses(list []ast.Stmt) bool {
	var all []func() bool
	hasDefault := false
	for _, s := range list {
		switch s := s.(type) {
		case *ast.CaseClause:
			hasDefault = hasDefault || s.List == nil
			all = append(all, func() bool {
				for _, e := range s.List {
					w.expr(e)
				}
				return w.block(s.Body)
			})
		case *ast.CommClause:
			hasDefault = true // one of them is taken
			all = append(all, func() bool { return w.stmt(s.Comm) && w.block(s.Body) })
		}
	}
	if !hasDefault {
		all = append(all, func() bool { return true })
	}
	return w.branches(all...)
}

// expr makes the calls in an expression or simple statement.
func (w *walk) expr(n ast.Node) {
	if e, ok := n.(ast.Expr); n == nil || ok && e == nil {
		return
	}
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // when it is called
		case *ast.CallExpr:
			for _, a := range n.Args {
				w.expr(a)
			}
			w.expr(n.Fun)
			w.call(n)
			return false
		}
		return true
	})
}

// call makes one call, its arguments being there.
func (w *walk) call(e *ast.CallExpr) {
	c, p := w.c, w.f.p
	if lock, op := w.lock(e); lock != "" {
		switch op {
		case "Lock", "RLock":
			w.held[lock], c.taken[lock] = true, true
		case "Unlock", "RUnlock":
			delete(w.held, lock)
		}
		return
	}
	if tv := p.info.Types[e.Fun]; tv.IsType() || tv.IsBuiltin() {
		return
	}
	var targets []*fn
	name := ""
	obj := object(p, e.Fun)
	switch o := obj.(type) {
	case *types.Func:
		name = o.FullName()
		if recv := o.Signature().Recv(); recv != nil && types.IsInterface(recv.Type()) {
			if c.harmless(types.TypeString(recv.Type(), nil)) {
				return
			}
			targets = c.implementations(o, recv.Type().Underlying().(*types.Interface))
			if n, ok := recv.Type().(*types.Named); !ok || n.Obj().Exported() || len(targets) == 0 {
				w.outward(e, name) // else nobody else can implement it
			}
		} else {
			o = o.Origin()
			if c.leaves(name, o) {
				w.outward(e, name)
			}
			if f := c.funcs[o]; f != nil {
				targets = []*fn{f}
			} else if c.harmless(name) || o.Pkg() != nil && c.harmless(o.Pkg().Path()+".*") {
				targets = w.literals(e) // slices.IndexFunc and the like
			}
		}
	case *types.Var: // a field, a parameter or a variable
		if c.harmless(types.TypeString(o.Type(), nil)) {
			return
		}
		o = o.Origin()
		targets = c.fields[o]
		if len(targets) == 0 || c.open[o] || o.IsField() && o.Exported() {
			w.outward(e, "func "+o.Name())
		}
	default:
		if f := c.function(p, e.Fun); f != nil { // called where it stands
			targets = []*fn{f}
		}
	}
	after := held{}
	for _, f := range targets {
		maps.Copy(after, c.visit(f, w.held))
	}
	if len(targets) > 0 {
		w.held = maps.Clone(after)
	}
}

// literals returns the function literals among a call's arguments.
func (w *walk) literals(e *ast.CallExpr) (fs []*fn) {
	for _, a := range e.Args {
		if f := w.c.function(w.f.p, a); f != nil {
			fs = append(fs, f)
		}
	}
	return fs
}

// outward notes a call that leaves the layer.
func (w *walk) outward(e *ast.CallExpr, name string) {
	if !w.f.p.asked {
		return
	}
	for lock := range w.held {
		w.c.add(Finding{w.c.pos(e.Pos()), w.f.name, lock, short(name)})
	}
}

// lock returns the lock that a call is about, and its method.
func (w *walk) lock(e *ast.CallExpr) (lock, op string) {
	sel, ok := e.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	f, ok := w.f.p.info.Uses[sel.Sel].(*types.Func)
	if !ok || f.Pkg() == nil || f.Pkg().Path() != "sync" || !strings.Contains(f.FullName(), "Mutex)") {
		return "", ""
	}
	name := w.f.p.types.Name() + "."
	if x, ok := ast.Unparen(sel.X).(*ast.SelectorExpr); ok {
		t := w.f.p.info.Types[x.X].Type
		if ptr, ok := t.Underlying().(*types.Pointer); ok {
			t = ptr.Elem()
		}
		if n, ok := t.(*types.Named); ok {
			name += n.Obj().Name() + "."
		}
		return name + x.Sel.Name, f.Name()
	}
	return name + types.ExprString(sel.X), f.Name()
}

func (c *checker) harmless(name string) bool { return slices.Contains(c.rules.Harmless, name) }

func (c *checker) leaves(name string, f *types.Func) bool {
	if f.Pkg() != nil && slices.Contains(c.rules.Outward, f.Pkg().Path()+".*") {
		return true
	}
	return slices.Contains(c.rules.Outward, name) || slices.Contains(c.rules.Outward, strings.TrimSuffix(name, f.Name())+"*")
}

// implementations returns the methods that a call through an interface may run.
func (c *checker) implementations(m *types.Func, i *types.Interface) (fs []*fn) {
	for _, t := range c.named {
		for _, t := range []types.Type{t, types.NewPointer(t)} {
			if !types.Implements(t, i) {
				continue
			}
			o, _, _ := types.LookupFieldOrMethod(t, true, m.Pkg(), m.Name())
			if f, ok := o.(*types.Func); ok && c.funcs[f.Origin()] != nil {
				fs = append(fs, c.funcs[f.Origin()])
			}
			break
		}
	}
	return fs
}
