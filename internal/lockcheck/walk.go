// Walking through the statements of a function in order, with the set of held locks.

package lockcheck

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// walk is the walk through one function.
type walk struct {
	c      *checker
	f      *fn
	held   held
	defers []*ast.CallExpr
	ends   []held // the locks held at each return
}

// visit walks through a function that is entered with the locks h, and returns the locks
// that may be held when it returns.
func (c *checker) visit(f *fn, h held) held {
	key := f.name + c.pos(f.body.Pos()) + "|" + h.key()
	if end, ok := c.seen[key]; ok {
		return end
	}
	c.seen[key] = h // ends recursion
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

// end handles a return: it runs the deferred calls.
func (w *walk) end() {
	before := maps.Clone(w.held)
	for _, d := range slices.Backward(w.defers) {
		w.call(d)
	}
	w.ends = append(w.ends, w.held)
	w.held = before
}

// block walks through statements, and reports whether the end of the block is reachable.
func (w *walk) block(list []ast.Stmt) bool {
	for _, s := range list {
		if !w.stmt(s) {
			return false
		}
	}
	return true
}

// branches walks through alternatives. After them, a lock counts as held if it is held
// after any alternative whose end is reachable.
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
	case *ast.BranchStmt: // continue and goto: the loop's start has been walked through with these locks
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
			hasDefault = true // a select always takes one of its cases
			all = append(all, func() bool { return w.stmt(s.Comm) && w.block(s.Body) })
		}
	}
	if !hasDefault {
		all = append(all, func() bool { return true })
	}
	return w.branches(all...)
}

// expr handles the calls in an expression or simple statement.
func (w *walk) expr(n ast.Node) {
	if e, ok := n.(ast.Expr); n == nil || ok && e == nil {
		return
	}
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // its body counts where it is called
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

// call handles one call, after its arguments.
func (w *walk) call(e *ast.CallExpr) { //nolint:gocognit // one case per kind of callee
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
	obj := object(p, e.Fun)
	switch o := obj.(type) {
	case *types.Func:
		name := o.FullName()
		if recv := o.Signature().Recv(); recv != nil && types.IsInterface(recv.Type()) {
			if c.harmless(types.TypeString(recv.Type(), nil)) {
				return
			}
			i, _ := recv.Type().Underlying().(*types.Interface) // IsInterface says that it is one
			targets = c.implementations(o, i)
			if n, ok := recv.Type().(*types.Named); !ok || n.Obj().Exported() || len(targets) == 0 {
				w.outward(e, name) // an unexported interface has only the known implementations
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
		if f := c.function(p, e.Fun); f != nil { // a literal that is called where it is written
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

// literals returns the known functions among a call's arguments.
func (w *walk) literals(e *ast.CallExpr) (fs []*fn) {
	for _, a := range e.Args {
		if f := w.c.function(w.f.p, a); f != nil {
			fs = append(fs, f)
		}
	}
	return fs
}

// outward records a call that leaves the layer, once per lock that is held.
func (w *walk) outward(e *ast.CallExpr, name string) {
	if !w.f.p.asked {
		return
	}
	for lock := range w.held {
		w.c.add(Finding{w.c.pos(e.Pos()), w.f.name, lock, short(name)})
	}
}

// lock returns the lock and the method if a call is one of a mutex's method, and "" if
// not.
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

// implementations returns the known methods that a call through an interface may run.
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
