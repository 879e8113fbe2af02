"""Go's text/template, as far as templates of models can see it: parsed once, executed in bounds.

parser.parse(source) -> Tree;  execute.execute(tree, root, functions) -> text
"""
